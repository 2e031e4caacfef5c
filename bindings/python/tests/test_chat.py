"""Chats and completions through the FFI."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import greedy, lively

import thimble.thimble_ffi as ffi
from thimble import Chat, ContextFull, Damaged, Finish, Model, NotAModel, NotFound, Reply, ThimbleError, TooLarge

QUESTION = "What is the capital of France?"
STORY = "Tell me a long story about a needle and a thread."


def run(thimble: str, path: Path, *flags: str) -> str:
    """What the command says."""
    command = [thimble, "run", str(path), "--temperature", "0", "--repetition-penalty", "1", "--max-tokens", "40", *flags]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_text_is_that_of_the_command(model: Model, path: Path, thimble: str) -> None:
    chat = model.chat(sampling=greedy(), max_tokens=40)
    said = "".join(chat.send(QUESTION))
    assert said == run(thimble, path, "--chat", "--prompt", QUESTION)
    answer = model.complete("Once upon a time", sampling=greedy(), max_tokens=40)
    assert "".join(answer) == run(thimble, path, "--prompt", "Once upon a time")


def test_pieces_come_in_order_while_they_are_made(model: Model) -> None:
    chat = model.chat(sampling=lively(), max_tokens=30)
    answer = chat.send(QUESTION)
    first = next(answer)
    pieces = [first, *answer]
    assert len(pieces) > 2
    assert answer.reply.text == "".join(pieces)
    assert list(answer) == [], "an answer ends once"
    second = chat.send("And?").reply
    assert second.reused_tokens > 0
    said = [(message.from_user, message.text) for message in chat.history]
    assert said == [(True, QUESTION), (False, "".join(pieces)), (True, "And?"), (False, second.text)]
    assert chat.stats.tokens == second.tokens > 0


def test_a_cancelled_answer_ends_within_one_token(model: Model) -> None:
    chat = model.chat(sampling=lively(), max_tokens=1500)
    answer, waiting = chat.send(STORY), chat.send("More.")
    next(answer)
    made_at_cancel = count_of(answer)
    chat.cancel()
    rest = list(answer)
    # What was waiting already, one piece that was on its way, and one that held back a character's first bytes.
    assert len(rest) <= made_at_cancel + 2
    assert answer.reply.finish == Finish.CANCELLED
    assert waiting.reply.finish == Finish.CANCELLED and waiting.reply.text == ""
    assert [message.text for message in chat.history] == [STORY, answer.reply.text]


def count_of(answer: object) -> int:
    """Pieces that wait to be taken."""
    return len(answer._queue._heard)  # type: ignore[attr-defined]


def test_a_loop_that_is_left_stops_the_answer(model: Model) -> None:
    chat = model.chat(sampling=lively(), max_tokens=1500)
    for _ in chat.send(STORY):
        break
    with chat.send("Another one.") as answer:
        next(answer)
    assert answer.reply.finish == Finish.CANCELLED
    named = chat.send("And another one.")
    for _ in named:
        break
    assert named.reply.finish == Finish.CANCELLED
    # The next message is answered, and the stopped answers are in the history as far as they came.
    fourth = model.chat(sampling=lively(), max_tokens=5).send("x").reply
    assert fourth.finish in (Finish.LENGTH, Finish.STOP)
    assert [message.from_user for message in chat.history] == [True, False] * 3


def test_chats_do_not_disturb_each_other(model: Model) -> None:
    alone = model.chat(sampling=lively(), max_tokens=40).send(STORY).reply.text
    answers = [model.chat(sampling=lively(), max_tokens=40).send(STORY) for _ in range(2)]
    assert [answer.reply.text for answer in answers] == [alone, alone]


def worker_threads() -> int:
    """How many worker threads run in this process."""
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        pytest.skip("this system has no /proc")
    names = []
    for task in tasks.iterdir():
        try:
            names.append((task / "comm").read_text())
        except (FileNotFoundError, ProcessLookupError):
            pass
    return sum(name.startswith("thimble") for name in names)


def test_everything_may_be_dropped_while_it_generates(path: Path) -> None:
    gc.collect()
    model = Model.open(path)
    chat = model.chat(sampling=lively(), max_tokens=1500)
    answer = chat.send(STORY)
    completion = model.complete(STORY, sampling=lively(), max_tokens=1500)
    next(answer), next(completion)
    assert worker_threads() >= 2
    del answer, chat, completion, model
    deadline = time.monotonic() + 60
    while worker_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert worker_threads() == 0


class Thrower(ffi.Listener):
    """Throws at the third piece, something that no interface names."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.pieces: list[str] = []
        self.complete = 0
        self.ended = threading.Event()
        self.reply: Reply = None  # type: ignore[assignment]

    def on_piece(self, text: str) -> None:
        self.pieces.append(text)
        self.complete += len(self.chat.history)
        if len(self.pieces) == 3:
            raise RuntimeError("thrown")

    def on_reasoning(self, text: str) -> None: ...

    def on_progress(self, done: int, of: int) -> None:
        pass

    def on_end(self, reply: Reply) -> None:
        self.reply = reply
        self.ended.set()

    def on_error(self, error: ffi.ApiError) -> None:
        self.ended.set()


def test_a_listener_that_throws_stops_its_answer_and_nothing_else(model: Model) -> None:
    chat = model.chat(sampling=lively(), max_tokens=1500)
    thrower = Thrower(chat)
    chat._inner.send(STORY, thrower)
    assert thrower.ended.wait(60)
    assert len(thrower.pieces) == 3
    assert thrower.complete == 0, "pieces come before the answer is complete"
    assert thrower.reply.finish == Finish.CANCELLED
    assert chat.history[-1].text == "".join(thrower.pieces)
    short = model.chat(sampling=lively(), max_tokens=3)
    assert short.send("And?").reply.text


def test_what_cannot_be_opened_is_told_apart(path: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Model.open(tmp_path / "none")
    text = tmp_path / "text"
    text.write_text("no model, whatever its length may be " * 99)
    with pytest.raises(NotAModel):
        Model.open(text)
    whole = path.read_bytes()
    cut = tmp_path / "cut"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Damaged):
        Model.open(cut)
    flipped = bytearray(whole)
    flipped[-1000] ^= 1
    cut.write_bytes(flipped)
    with Model.open(cut) as model, pytest.raises(Damaged):
        model.verify()


def test_what_does_not_fit_the_budget_is_refused_with_the_figures(path: Path) -> None:
    with Model.open(path) as model:
        model.verify()
        info = model.info
        needed = info.file_bytes + info.state_bytes
        assert info.file_bytes == os.path.getsize(path)
    with pytest.raises(TooLarge) as refused:
        Model.open(path, budget_bytes=needed - 1)
    assert (refused.value.needed, refused.value.budget) == (needed, needed - 1)
    assert f"{needed}" in str(refused.value)
    Model.open(path, budget_bytes=needed).close()
    Model.open(path, budget_bytes=needed - 1, context=info.context // 2).close()


def test_a_message_without_room_is_refused(path: Path) -> None:
    with Model.open(path, context=64) as model:
        chat = model.chat(sampling=greedy())
        with pytest.raises(ContextFull, match="64|63"):
            list(chat.send("word " * 200))
        assert chat.history == []
        answer = model.complete("a b", sampling=lively(), max_tokens=500)
        assert answer.reply.finish in (Finish.CONTEXT, Finish.STOP)


def test_a_saved_chat_comes_back(model: Model, tmp_path: Path) -> None:
    chat = model.chat(system="Be brief.", sampling=lively(), max_tokens=10)
    chat.send(QUESTION).reply
    before = chat.history
    chat.save(tmp_path / "talk.json")
    chat.clear()
    assert chat.history == []
    other = model.chat(sampling=lively(), max_tokens=10)
    for restored in (chat, other):
        restored.restore(tmp_path / "talk.json")
        assert restored.history == before
    assert other.send("And?").reply.text
    assert len(other.history) == 4
    with pytest.raises(NotFound):
        chat.restore(tmp_path / "none")
    again = chat.retry().reply
    assert [message.text for message in chat.history] == [QUESTION, again.text]


def test_a_closed_chat_lets_go_of_its_journal(model: Model, tmp_path: Path) -> None:
    chat = model.chat(sampling=lively(), max_tokens=500, journal=tmp_path / "chat.jsonl")
    answer = chat.send(STORY)
    assert next(answer)
    chat.close()
    again = model.chat(sampling=lively(), max_tokens=10, journal=tmp_path / "chat.jsonl")
    assert len(again.history) == 2
    assert answer.reply.finish in (Finish.CANCELLED, Finish.STOP)


def test_keys_and_values_go_on_in_another_chat(model: Model, tmp_path: Path) -> None:
    journal, kv_file = tmp_path / "chat.jsonl", tmp_path / "chat.kv"
    chat = model.chat(sampling=lively(), max_tokens=60, journal=journal, kv_file=kv_file)
    chat.send(STORY).reply
    chat.pause()
    for _ in range(6000):
        if kv_file.exists():
            break
        time.sleep(0.01)
    del chat
    gc.collect()
    again = model.chat(sampling=lively(), max_tokens=10, journal=journal, kv_file=kv_file)
    assert len(again.history) == 2
    assert again.send("And?").reply.reused_tokens >= 64


def test_hooks_of_the_platform_do_not_change_the_text(model: Model) -> None:
    def ask(hook: bool) -> list[str]:
        chat = model.chat(sampling=lively(), max_tokens=25)
        first = chat.send(QUESTION)
        if hook:
            chat.pause()
            chat.save_power(True)
            time.sleep(0.05)
            chat.resume()
        replies = [first.reply.text]
        if hook:
            chat.free_memory()
        second = chat.send("And?").reply
        assert (second.reused_tokens == 0) == hook
        return [*replies, second.text]

    assert ask(False)[0] == ask(True)[0]


def test_a_paused_answer_waits(model: Model) -> None:
    chat = model.chat(sampling=lively(), max_tokens=25)
    chat.pause()
    answer = chat.send(QUESTION)
    taken: list[str] = []
    reader = threading.Thread(target=lambda: taken.extend(answer))
    reader.start()
    reader.join(0.3)
    assert reader.is_alive() and not taken
    chat.resume()
    reader.join(60)
    assert "".join(taken) == answer.reply.text != ""


def test_async_for(model: Model) -> None:
    async def ask(text: str) -> str:
        pieces = []
        async for piece in model.chat(sampling=lively(), max_tokens=20).send(text):
            pieces.append(piece)
        return "".join(pieces)

    async def both() -> list[str]:
        return list(await asyncio.gather(ask(QUESTION), ask(STORY)))

    async def left() -> Reply:
        answer = model.chat(sampling=lively(), max_tokens=1500).send(STORY)
        async for _ in answer:
            break
        # Stopped at once: nothing else runs in this loop before.
        return answer.reply

    assert asyncio.run(left()).finish == Finish.CANCELLED
    told = asyncio.run(both())
    for text, question in zip(told, (QUESTION, STORY)):
        assert text == model.chat(sampling=lively(), max_tokens=20).send(question).reply.text


def test_a_completion_waits_while_it_is_paused(model: Model) -> None:
    expected = model.complete(STORY, sampling=lively(), max_tokens=60).reply.text
    text = model.complete(STORY, sampling=lively(), max_tokens=60)
    text.pause()
    text.save_power(True)
    taken: list[str] = []
    reader = threading.Thread(target=lambda: taken.extend(text))
    reader.start()
    reader.join(0.3)
    assert reader.is_alive()
    text.resume()
    reader.join(60)
    assert "".join(taken) == expected


def test_a_completion_ends_in_front_of_a_text(model: Model) -> None:
    whole = model.complete("One, two,", sampling=lively(), max_tokens=30).reply.text
    # A tiny model with random weights also says what is no text.
    middle = max(whole.split("\ufffd"), key=len)[-3:]
    answer = model.complete("One, two,", sampling=lively(), max_tokens=30, stop=[middle])
    assert answer.reply.text == whole[: whole.index(middle)]
    assert answer.reply.finish == Finish.STOP
    with pytest.raises(ThimbleError, match="empty"):
        model.complete("x", stop=[""])


def test_what_is_closed_says_so(path: Path) -> None:
    with Model.open(path) as model:
        chat = model.chat(sampling=lively(), max_tokens=1500)
        answer = chat.send(STORY)
        next(answer)
    assert answer.reply.finish == Finish.CANCELLED
    with pytest.raises(ValueError, match="closed"):
        chat.send("x")
    with pytest.raises(ValueError, match="closed"):
        model.tokens("x")


def test_tokens(model: Model) -> None:
    assert len(model.tokens("a thimble")) > 1
    assert len(model.tokens("<|im_start|>")) > 1, "in plain text nothing is special"


def test_the_shortest_chat(path: Path) -> None:
    script = Path(__file__).parents[1] / "examples" / "chat.py"
    told = subprocess.run([sys.executable, script, path, "Hi"], check=True, capture_output=True, text=True)
    assert told.stdout


LEFT_OPEN = """
import sys
from thimble import Model
model = Model.open(sys.argv[1])
chats = [model.chat(max_tokens=1500) for _ in range(3)]
answers = [chat.send("Tell me a long story.") for chat in chats] + [model.complete("Once upon a time")]
chats[1].pause()
for answer in (answers[0], answers[2], answers[3])[: int(sys.argv[2])]:
    next(answer)
"""


def test_a_program_may_end_at_any_time(path: Path) -> None:
    # A worker's thread that calls into an interpreter during shutdown would abort the process.
    for taken in (0, 1, 2, 3, 3, 3):
        subprocess.run([sys.executable, "-c", LEFT_OPEN, path, str(taken)], check=True, timeout=60)


def test_every_reader_of_an_answer_finds_its_end(model: Model) -> None:
    answer = model.chat(sampling=lively(), max_tokens=20).send(QUESTION)
    taken: list[list[str]] = []
    readers = [threading.Thread(target=lambda: taken.append(list(answer)), daemon=True) for _ in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    assert len(taken) == 2 and sum(len(text) for pieces in taken for text in pieces) == len(answer.reply.text)


def test_a_paused_answer_is_closed_alone(model: Model) -> None:
    chat = model.chat(sampling=lively(), max_tokens=20)
    chat.pause()
    closed, other = chat.send(STORY), chat.send(QUESTION)
    closed.close()
    assert closed.reply.finish == Finish.CANCELLED
    chat.resume()
    assert other.reply.finish != Finish.CANCELLED


def test_a_closed_model_stops_its_completions(path: Path) -> None:
    with Model.open(path) as model:
        answer = model.complete(STORY, sampling=lively(), max_tokens=1500)
        next(answer)
    assert answer.reply.finish == Finish.CANCELLED
