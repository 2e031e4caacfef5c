//! The beginning of an answer: what it continues, the form that it must have, and its line in the journal.

use super::request::{AnswerRequest, PartialAnswer};
use super::thread::WorkerThread;
use crate::ApiError;
use crate::journal::Journal;
use thimble_chat::{ChatModel, ChatSession, TOKEN_BYTES, TokenConstraint, Turn};

/// An answer that begins or goes on, and what keeps it in its form.
pub(super) type Begun = (PartialAnswer, Option<Box<dyn TokenConstraint>>);

impl WorkerThread<'_> {
    /// Begins an answer, also in the journal, and returns it with the turn that it replaces.
    pub(super) fn begin(
        &self,
        session: &mut ChatSession<&mut dyn ChatModel>,
        request: &mut AnswerRequest,
    ) -> (Result<Begun, ApiError>, Option<Turn>) {
        let again = if request.text.is_none() { session.pop_turn() } else { None };
        session.model.keep_log_probabilities(request.options.log_probabilities.map(|most| most as usize));
        if let Some(partial) = request.partial.take() {
            return (self.constraint(request).map(|constraint| (partial, constraint)), again);
        }
        let accepted = std::mem::replace(&mut request.accepted, Ok(()));
        let waits = request.text.is_some() && accepted.is_ok();
        let constraint = accepted.and_then(|()| self.constraint(request));
        if waits && constraint.is_err() {
            let _ = self.write(Journal::dropped);
        }
        let begun = constraint.and_then(|constraint| {
            let user = match (&request.text, &again) {
                (Some(text), _) => self.write(Journal::answer).map(|()| text.clone()),
                (None, Some(last)) => self.write(Journal::again).map(|()| last.user.clone()),
                (None, None) => Err(ApiError::other("there is no message to answer again")),
            };
            // All the memory that pieces take.
            let most = request.most_tokens(session.max_tokens).min(session.model.context()) * TOKEN_BYTES;
            let has_reasoning = constraint.is_none() && session.model.has_reasoning();
            let shown = String::with_capacity(most);
            user.map(|user| {
                (PartialAnswer { user, shown, has_reasoning, ..PartialAnswer::default() }, constraint)
            })
        });
        (begun, again)
    }

    fn constraint(&self, request: &AnswerRequest) -> Result<Option<Box<dyn TokenConstraint>>, ApiError> {
        request.options.format.as_ref().map(|format| self.sessions.constraint(format)).transpose()
    }
}
