"""A model file."""

from __future__ import annotations

import os
import weakref
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Optional, Union, overload

from . import thimble_ffi as ffi
from ._answer import Completion, PieceQueue, watched
from ._chat import Chat, Path
from ._errors import translated_errors
from ._format import Form
from ._messages import MessageLike, read
from ._tools import Tool, ToolBox
from .thimble_ffi import Adapter, Backend, KvCache, ModelInfo, Sampling, TokenLogProbability

#: How the states of a text become one vector.
Pooled = Literal["mean", "last"]
#: An adapter, with weight 1 or its own.
Weighted = Union[Adapter, tuple[Adapter, float]]


def _weighted(adapters: Iterable[Weighted]) -> list[ffi.AdapterWeight]:
    pairs = (adapter if isinstance(adapter, tuple) else (adapter, 1.0) for adapter in adapters)
    return [ffi.AdapterWeight(adapter=adapter, weight=weight) for adapter, weight in pairs]


class Model:
    """An open model file. Several chats may use it at once, from any thread."""

    def __init__(self, inner: ffi.Model) -> None:
        self._model: Optional[ffi.Model] = inner
        self._chats: weakref.WeakSet[Chat] = weakref.WeakSet()
        self._completions: weakref.WeakSet[Completion] = weakref.WeakSet()

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        budget_bytes: Optional[int] = None,
        context: Optional[int] = None,
        threads: Optional[int] = None,
        kv_cache: Optional[KvCache] = None,
        backend: Optional[Backend] = None,
        backend_memory: Optional[Path] = None,
    ) -> Model:
        """Opens a .thimble file.

        budget_bytes: refuse what takes more (the file and the state of one chat). context: tokens that a conversation
        may have, 2,048 unless given. threads: as many as the system grants unless given. kv_cache: how keys and values
        are kept. backend: the CPU, the GPU (where the library was built with it), or the faster one, which is measured
        first; backend_memory: a file that remembers what was measured.

        Raises NotFound, NotAModel, Damaged, or TooLarge with `needed` and `budget`.
        """
        options = ffi.ModelOptions(
            budget_bytes=budget_bytes,
            context=context,
            threads=threads,
            kv_cache=kv_cache,
            backend=backend,
            backend_memory=None if backend_memory is None else os.fspath(backend_memory),
        )
        with translated_errors():
            return cls(ffi.Model.open(os.fspath(path), options))

    @property
    def _inner(self) -> ffi.Model:
        if self._model is None:
            raise ValueError("the model was closed")
        return self._model

    @property
    def info(self) -> ModelInfo:
        """The model's properties and how it runs."""
        with translated_errors():
            return self._inner.info()

    def chat(
        self,
        *,
        system: Optional[str] = None,
        sampling: Optional[Sampling] = None,
        max_tokens: Optional[int] = None,
        journal: Optional[Path] = None,
        kv_file: Optional[Path] = None,
        thinking: Optional[bool] = None,
        messages: Iterable[MessageLike] = (),
        stop: Sequence[str] = (),
        tools: Iterable[Tool] = (),
        adapters: Iterable[Weighted] = (),
    ) -> Chat:
        """Begins a conversation, or continues the one in the journal.

        system: instructions in front of it. max_tokens: longest answer, 1,024 unless given. journal: a file that has
        everything on disk before it is shown; where it exists, the chat goes on from it. kv_file: a file for keys and
        values, written by `pause` and `free_memory`, that spares a later chat computing them; it may be deleted.
        thinking: whether the model thinks before it answers, where `info.has_thinking`; its own default unless given. The
        pieces are the answer alone; `reply.reasoning` has the rest. messages: what was said before, as mappings with `role`
        and `content` (OpenAI's form) or as `Message`s; a last message of the user waits for `chat.ask()`. stop: texts that
        end an answer. tools: functions with types and a docstring, which the model may call; or their definitions. adapters:
        of `open_adapter`, each alone or with its weight.
        """
        system, said = read(messages, system)
        box = ToolBox(tools)
        options = ffi.ChatOptions(
            system=system,
            sampling=sampling,
            max_tokens=max_tokens,
            journal=None if journal is None else os.fspath(journal),
            kv_file=None if kv_file is None else os.fspath(kv_file),
            thinking=thinking,
            messages=said,
            stop=list(stop),
            tools=box.definitions,
            adapters=_weighted(adapters),
        )
        with translated_errors():
            inner = ffi.Chat(self._inner, options)
        watched(inner)
        chat = Chat(inner, box)
        self._chats.add(chat)
        return chat

    def complete(
        self,
        prompt: str,
        *,
        max_tokens: Optional[int] = None,
        sampling: Optional[Sampling] = None,
        stop: Sequence[str] = (),
        log_probabilities: Optional[int] = None,
        schema: Any = None,
        choices: Optional[Sequence[str]] = None,
        regex: Optional[str] = None,
        lark: Optional[str] = None,
        gbnf: Optional[str] = None,
        adapters: Iterable[Weighted] = (),
    ) -> Completion:
        """Continues a text as it is, without a chat template, on a thread of its own.

        max_tokens: 1,024 unless given. stop: texts that it ends in front of. log_probabilities: how many of the likeliest
        tokens `reply.log_probabilities` has beside each token, 0 to 20. schema, choices, regex, lark, gbnf: the form of the
        continuation, as for `Chat.ask`. adapters: as for `chat`.
        """
        queue = PieceQueue()
        options = ffi.CompletionOptions(
            max_tokens=max_tokens,
            sampling=sampling,
            stop=list(stop),
            log_probabilities=log_probabilities,
            format=Form(schema, choices, regex, lark, gbnf).format,
            adapters=_weighted(adapters),
        )
        with translated_errors():
            completion = self._inner.complete(prompt, options, queue)
        watched(completion)
        text = Completion(queue, completion)
        self._completions.add(text)
        return text

    def tokens(self, text: str) -> list[int]:
        """The token ids of a text. Text that looks like a special token is plain text."""
        with translated_errors():
            return self._inner.tokens(text)

    def detokenize(self, tokens: Iterable[int]) -> str:
        """The text of these tokens; U+FFFD for bytes that are no whole character."""
        with translated_errors():
            return self._inner.detokenize(list(tokens))

    def log_probabilities(
        self, prompt: str, text: str, *, alternatives: int = 0
    ) -> list[TokenLogProbability]:
        """The log-probability of each token of `text` after `prompt`, nats, from the model's own logits.

        alternatives: how many of the likeliest tokens in its place it has, at most 20.
        """
        with translated_errors():
            return self._inner.log_probabilities(prompt, text, alternatives)

    @overload
    def embed(self, texts: str, *, pooling: Pooled = "mean") -> array[float]: ...

    @overload
    def embed(
        self, texts: Union[list[str], tuple[str, ...]], *, pooling: Pooled = "mean"
    ) -> list[array[float]]: ...

    def embed(
        self, texts: Union[str, list[str], tuple[str, ...]], *, pooling: Pooled = "mean"
    ) -> Union[array[float], list[array[float]]]:
        """The embedding of a text, or of each of several: an array of floats of length 1, which `numpy.asarray` shares.

        The scalar product of two embeddings is their cosine similarity. pooling: the "mean" over all tokens, or the "last" one.
        Raises ContextFull if a text is longer than the context.
        """
        kinds = {"mean": ffi.Pooling.MEAN, "last": ffi.Pooling.LAST}
        if pooling not in kinds:
            raise ValueError(f'expected the pooling "mean" or "last", found {pooling!r}')
        with translated_errors():
            found = self._inner.embed([texts] if isinstance(texts, str) else list(texts), kinds[pooling])
        embeddings = [array("f", embedding) for embedding in found]
        return embeddings[0] if isinstance(texts, str) else embeddings

    def open_adapter(self, path: Path) -> Adapter:
        """Reads an .adapter file, which `thimble convert` makes of a LoRA folder, for the chats of this model.

        Raises NotFound, and ThimbleError for an adapter of another model.
        """
        with translated_errors():
            return self._inner.open_adapter(os.fspath(path))

    def verify(self) -> None:
        """Checks every byte of the file against its checksums. Raises Damaged."""
        with translated_errors():
            self._inner.verify()

    def close(self) -> None:
        """Closes its chats and completions and releases the file."""
        for chat in list(self._chats):
            chat.close()
        for completion in list(self._completions):
            completion.close()
        self._model = None

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
