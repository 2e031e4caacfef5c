//! Answers that are cancelled after a session had begun them.

use super::*;
use thimble_chat::AnswerPiece;

#[test]
fn an_answer_cancelled_outside_a_session_keeps_all_its_text() {
    // Pieces that the listener had already, with and without reasoning; text and reasoning of the reply.
    for (has_reasoning, shown, [text, reasoning]) in [
        (true, "<thi", ["<thi", ""]),
        (true, "<think>a</think>b", ["b", "a"]),
        (false, "<think>a", ["<think>a", ""]),
    ] {
        let worker = worker(5, 0);
        let (heard, receiver) = channel();
        let mut partial = request::PartialAnswer { has_reasoning, ..Default::default() };
        partial.shown.push_str(shown);
        let mut early = String::new();
        let mut piece = |piece: AnswerPiece<'_>| match piece {
            AnswerPiece::Text(text) => early.push_str(text),
            AnswerPiece::Reasoning(_) => {}
        };
        match has_reasoning {
            true => partial.splitter.push(shown, &mut piece),
            false => piece(AnswerPiece::Text(shown)),
        }
        lock(&worker.requests).send(Request::Answer(Box::new(AnswerRequest {
            ask: Ask::Message("x".to_owned()),
            options: AnswerOptions::default(),
            accepted: Ok(()),
            partial: Some(partial),
            listener: Arc::new(Collector { heard, fails_at: None }),
            cancelled: Arc::new(AtomicBool::new(true)),
            busy: Busy::new(),
        })));
        for heard in receiver {
            match heard {
                Heard::Piece(piece) => early.push_str(&piece),
                Heard::End(reply) => assert_eq!([&*reply.text, &*reply.reasoning], [text, reasoning]),
                Heard::Error(error) => panic!("{error}"),
            }
        }
        assert_eq!(early, text);
    }
}
