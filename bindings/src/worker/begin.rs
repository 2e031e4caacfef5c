//! The beginning of an answer: what it answers, the form that it must have, and its line in the journal.

use super::request::{AnswerRequest, Ask, PartialAnswer};
use super::thread::{Form, WorkerThread};
use crate::journal::Journal;
use crate::{ApiError, ToolResult};
use thimble_chat::{ChatModel, ChatSession, TOKEN_BYTES, Turn};

/// An answer that begins or goes on, and what keeps it in its form.
pub(super) type Begun = (PartialAnswer, Form);

impl WorkerThread<'_> {
    /// Begins an answer, also in the journal, and returns it with the turn that it replaces.
    pub(super) fn begin(
        &self,
        session: &mut ChatSession<&mut dyn ChatModel>,
        request: &mut AnswerRequest,
    ) -> (Result<Begun, ApiError>, Option<Turn>) {
        let again = if matches!(request.ask, Ask::Again) { session.pop_turn() } else { None };
        session.model.keep_log_probabilities(request.options.log_probabilities.map(|most| most as usize));
        if let Some(partial) = request.partial.take() {
            return (self.sessions.form(&request.options).map(|form| (partial, form)), again);
        }
        let accepted = std::mem::replace(&mut request.accepted, Ok(()));
        let waits = matches!(request.ask, Ask::Message(_)) && accepted.is_ok();
        let form = accepted.and_then(|()| self.sessions.form(&request.options));
        if waits && form.is_err() {
            let _ = self.write(Journal::dropped);
        }
        let begun = form.and_then(|form| {
            let turn = self.turn(session, &request.ask, again.as_ref())?;
            // All the memory that pieces take.
            let most = request.most_tokens(session.max_tokens).min(session.model.context()) * TOKEN_BYTES;
            let has_reasoning = !form.is_value() && session.model.has_reasoning();
            let shown = String::with_capacity(most);
            Ok((PartialAnswer { turn, shown, has_reasoning, ..PartialAnswer::default() }, form))
        });
        (begun, again)
    }

    /// What is answered, once the journal has it.
    fn turn(
        &self,
        session: &ChatSession<&mut dyn ChatModel>,
        ask: &Ask,
        again: Option<&Turn>,
    ) -> Result<Turn, ApiError> {
        match (ask, again) {
            (Ask::Message(text), _) => {
                self.write(Journal::answer)?;
                Ok(Turn::new(text))
            }
            (Ask::Again, Some(last)) => {
                self.write(Journal::again)?;
                Ok(Turn::new(&*last.user))
            }
            (Ask::Again, None) => Err(ApiError::other("there is no message to answer again")),
            (Ask::Results(results), _) => {
                let last = session.conversation.turns.last().filter(|turn| turn.waits()).cloned();
                let mut turn =
                    last.ok_or_else(|| ApiError::other("no call of a tool waits for its result"))?;
                if let Some(round) = turn.rounds.last_mut() {
                    round.results = ToolResult::of_calls(results, &round.calls)?;
                    self.write(|journal| journal.results(&round.results))?;
                }
                Ok(turn)
            }
        }
    }
}
