//! Conversations from an app's own messages.

use crate::conversation::{Conversation, Turn};
use crate::event::{AnswerStats, ChatEvent};
use crate::model::ChatModel;
use crate::session::ChatSession;
use crate::{ChatError, MessageOrderError};
use std::sync::atomic::AtomicBool;
use thimble_runtime::chat::{Message, Role};

impl Conversation {
    /// The conversation before the last message, and that message, which is the user's.
    ///
    /// # Errors
    /// [`MessageOrderError`] unless a system message, if there is one, comes first, and messages of the user and the
    /// assistant follow in turn, the user's first and last.
    pub fn from_messages(messages: &[Message<'_>]) -> Result<(Conversation, String), MessageOrderError> {
        let mut conversation = Conversation::default();
        let mut asked: Option<&str> = None;
        for (index, message) in messages.iter().enumerate() {
            match (message.role, asked) {
                (Role::System, None) if index == 0 => conversation.system = Some(message.text.to_owned()),
                (Role::User, None) => asked = Some(message.text),
                (Role::Assistant, Some(user)) => {
                    conversation.turns.push(Turn { answer: message.text.to_owned(), ..Turn::new(user) });
                    asked = None;
                }
                (found, asked) => {
                    let expected = if asked.is_some() { Role::Assistant } else { Role::User };
                    return Err(MessageOrderError::Role { number: index + 1, expected, found });
                }
            }
        }
        let asked = asked.ok_or(MessageOrderError::NothingToAnswer)?;
        Ok((conversation, asked.to_owned()))
    }
}

impl<M: ChatModel> ChatSession<M> {
    /// Answers the last of `messages`, which replace the conversation. What they have in common with it at the beginning is
    /// not computed again. See [`ChatSession::answer`].
    ///
    /// An error, or an interruption before the first character, leaves the conversation unchanged.
    ///
    /// # Errors
    /// Those of [`Conversation::from_messages`] and [`ChatSession::answer`].
    pub fn answer_messages<E: From<ChatError>>(
        &mut self,
        messages: &[Message<'_>],
        interrupted: &AtomicBool,
        show: &mut dyn FnMut(ChatEvent<'_>) -> Result<(), E>,
    ) -> Result<AnswerStats, E> {
        let (conversation, user) = Conversation::from_messages(messages).map_err(ChatError::from)?;
        let before = std::mem::replace(&mut self.conversation, conversation);
        let answered = self.answer(&user, interrupted, show);
        if !answered.as_ref().is_ok_and(|answer| answer.remembered) {
            self.conversation = before;
        }
        answered
    }
}

#[cfg(test)]
mod tests {
    use super::{Conversation, Message, MessageOrderError, Role, Turn};
    use Role::{Assistant, System, Tool, User};

    fn messages<'a>(roles: &[Role], text: &'a str) -> Vec<Message<'a>> {
        roles.iter().map(|&role| Message { role, text }).collect()
    }

    #[test]
    fn messages_in_turn_are_a_conversation() {
        let turn = Turn { answer: "x".to_owned(), ..Turn::new("x") };
        for (roles, system, turns) in [
            (&[User][..], None, 0),
            (&[System, User], Some("x".to_owned()), 0),
            (&[User, Assistant, User], None, 1),
            (&[System, User, Assistant, User, Assistant, User], Some("x".to_owned()), 2),
        ] {
            let (conversation, user) = Conversation::from_messages(&messages(roles, "x")).unwrap();
            assert_eq!(user, "x");
            assert_eq!(conversation, Conversation { system, turns: vec![turn.clone(); turns] });
            let open = Turn::new("x");
            let found = conversation.messages(0, &open);
            assert!(found.iter().map(|message| message.message()).eq(messages(roles, "x")));
        }
    }

    #[test]
    fn messages_out_of_turn_are_refused_by_number() {
        let nothing: [&[Role]; 4] = [&[], &[System], &[User, Assistant], &[System, User, Assistant]];
        for roles in nothing {
            let found = Conversation::from_messages(&messages(roles, ""));
            assert_eq!(found, Err(MessageOrderError::NothingToAnswer), "{roles:?}");
        }
        for (roles, number, expected) in [
            (&[Assistant, User][..], 1, User),
            (&[System, System, User], 2, User),
            (&[User, User], 2, Assistant),
            (&[User, System], 2, Assistant),
            (&[User, Assistant, System, User], 3, User),
            (&[User, Assistant, Assistant, User], 3, User),
            (&[User, Tool], 2, Assistant),
        ] {
            let error = Conversation::from_messages(&messages(roles, "")).unwrap_err();
            let found = roles[number - 1];
            assert_eq!(error, MessageOrderError::Role { number, expected, found }, "{roles:?}");
            assert!(
                error.to_string().starts_with(&format!("message {number} has the role {}", found.name()))
            );
        }
    }
}
