//! A loaded conversation as it would look in the chat.

use super::display::AnswerDisplay;
use super::terminal_chat::TerminalChat;
use crate::failure::Failure;
use crate::flags::tools::call_line;
use crate::terminal;

/// Turns of a conversation that are shown, the last ones.
const SHOWN_TURNS: usize = 20;

impl TerminalChat<'_, '_, '_> {
    /// Shows the last turns on a terminal.
    pub(super) fn show_conversation(&mut self) -> Result<(), Failure> {
        let hidden = self.hides_reasoning();
        let Some(look) = self.state.settings.look else { return Ok(()) };
        let turns = &self.session.conversation.turns;
        let earlier = turns.len().saturating_sub(SHOWN_TURNS);
        if earlier > 0 {
            terminal::note(&format!("({earlier} earlier turns are not shown)"));
        }
        for turn in &turns[earlier..] {
            writeln!(self.stdout, "> {}", terminal::printable(&turn.user))?;
            for round in &turn.rounds {
                let mut display = AnswerDisplay::new(&mut *self.stdout, Some(look), hidden);
                display.text(&round.text)?;
                let waits = round.waits();
                for call in round.calls.iter().filter(|_| !waits) {
                    display.call(&call_line(call, true))?;
                }
                display.finish()?;
                for (call, result) in round.calls.iter().zip(&round.results) {
                    let result = terminal::printable(result);
                    writeln!(self.stdout, "{} {}> {result}", call.id, call.name)?;
                }
            }
            if !turn.waits() {
                let mut display = AnswerDisplay::new(&mut *self.stdout, Some(look), hidden);
                display.text(&turn.answer)?;
                display.finish()?;
            }
        }
        Ok(self.stdout.flush()?)
    }
}
