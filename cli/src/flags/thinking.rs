//! Whether a model thinks before it answers, and whether that is shown.

use clap::ValueEnum;
use thimble_chat::template;
use thimble_runtime::format::ModelFile;

/// The values of `--thinking`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Thinking {
    /// Think before each answer
    On,
    /// Answer without thinking
    Off,
    /// Leave the model's default, but show only the answers
    Hide,
}

impl Thinking {
    /// What the chat template is told.
    pub(crate) fn option(thinking: Option<Thinking>) -> Option<bool> {
        match thinking {
            Some(Thinking::On) => Some(true),
            Some(Thinking::Off) => Some(false),
            Some(Thinking::Hide) | None => None,
        }
    }

    /// A note if the model's template has no such setting.
    pub(crate) fn note(thinking: Option<Thinking>, file: &ModelFile<'_>) -> Option<&'static str> {
        let asked = Thinking::option(thinking).is_some();
        let has = file.chat().is_some_and(|chat| template::has_thinking(&chat));
        (asked && !has).then_some(
            "note: this model's chat template has no setting for thinking: --thinking has no effect",
        )
    }
}
