//! Commands of a chat that show or change its settings, model, files and conversation.

use super::line::Reader;
use super::settings;
use super::terminal_chat::{Next, TerminalChat};
use crate::adapters::{AdapterFlags, Adapters, WeightedPath};
use crate::attach::AttachedFile;
use crate::chats::Chats;
use crate::converted::Notes;
use crate::failure::Failure;
use crate::home::Home;
use crate::model::Location;
use crate::workspace::Mapped;
use crate::{resources, terminal};
use std::path::Path;
use thimble_chat::{ChatPrompt, SavedConversation, Turn, encode_chat};

impl TerminalChat<'_, '_, '_> {
    /// Lists the settings.
    pub(super) fn show_settings(&self) {
        let system = self.session.conversation.system.as_deref().unwrap_or("none");
        let values = self.state.settings.values(&self.sampling);
        let system = ("system", system.to_string());
        let lines = values.into_iter().chain([system]).map(|(name, value)| format!("{name:<20} {value}"));
        terminal::note(&lines.collect::<Vec<_>>().join("\n"));
    }

    /// Shows a setting, or changes it: `default` stands for what holds without any.
    pub(super) fn set(&mut self, name: &str, value: Option<&str>) {
        match (name, value) {
            ("system", Some(text)) => {
                return self.set_system(Some(text.to_string()).filter(|text| text != "default"));
            }
            ("system", None) => {
                return terminal::note(self.session.conversation.system.as_deref().unwrap_or("none"));
            }
            _ => {}
        }
        let Some(value) = value else {
            let values = self.state.settings.values(&self.sampling);
            return match values.iter().find(|(known, _)| *known == name) {
                Some((name, value)) => terminal::note(&format!("{name} {value}")),
                None => self.fail(&settings::unknown(name)),
            };
        };
        let before = self.state.settings.clone();
        match self.state.settings.set(name, Some(value).filter(|value| *value != "default")) {
            Ok(true) => {}
            Ok(false) => return self.fail(&settings::unknown(name)),
            Err(expected) => return self.fail(&format!("/set {name} {value}: {expected}, or `default`")),
        }
        if let Err(failure) = self.apply_settings() {
            self.fail(&failure);
            self.state.settings = before;
            return;
        }
        let values = self.state.settings.values(&self.sampling);
        if let Some((name, value)) = values.iter().find(|(known, _)| *known == name) {
            terminal::note(&format!("({name} is {value})"));
        }
    }

    /// Shows the model, or goes on with another one, if that can say the conversation.
    pub(super) fn change_model(&mut self, name: Option<&str>) -> Next {
        let Some(name) = name else {
            terminal::note(&self.state.location.typed());
            return Next::Input;
        };
        match self.other_model(name) {
            Ok(location) => {
                self.state.location = location;
                if !self.state.adapters.typed().is_empty() {
                    terminal::note("(the adapters belong to the model before: /adapter FILE adds others)");
                }
                self.state.adapters = AdapterFlags::default();
                Next::Reopen
            }
            Err(failure) => {
                self.fail(&failure);
                Next::Input
            }
        }
    }

    /// Fetches a model and renders the conversation with its template.
    fn other_model(&self, name: &str) -> Result<Location, Failure> {
        let location = Location::resolve(Some(name))?;
        let mapped = Mapped::open(&location.fetch(Notes::Shown)?)?;
        let conversation = &self.session.conversation;
        let open = Turn::new("hello");
        let messages = conversation.messages(0, &open);
        let prompt = ChatPrompt { messages, tools: None, thinking: None };
        encode_chat(&mapped.file()?, &prompt).map_err(|error| Failure::chat(name, error))?;
        Ok(location)
    }

    /// Shows the adapters, or goes on with one, or with none.
    pub(super) fn change_adapter(&mut self, typed: Option<&str>) -> Next {
        let Some(typed) = typed else {
            let typed = self.state.adapters.typed();
            terminal::note(&if typed.is_empty() { "(no adapters)".to_string() } else { typed.join("\n") });
            return Next::Input;
        };
        let path = (typed != "-").then(|| typed.parse::<WeightedPath>()).transpose().map_err(Failure::Usage);
        let opened = path.and_then(|path| {
            let adapters = self.state.adapters.with(path.into_iter().collect());
            Adapters::open(&adapters, &self.session.model.file).map(|_| adapters)
        });
        match opened {
            Ok(adapters) => {
                self.state.adapters = adapters;
                Next::Reopen
            }
            Err(failure) => {
                self.fail(&failure);
                Next::Input
            }
        }
    }

    /// Shows the files that go with the next message, adds one, or takes all out.
    pub(super) fn attach(&mut self, path: Option<&str>) {
        match path {
            Some("-") => self.state.attached.clear(),
            Some(path) => match AttachedFile::read(Path::new(path)) {
                Ok(file) => self.state.attached.push(file),
                Err(failure) => return self.fail(&failure),
            },
            None => {}
        }
        let attached = &self.state.attached;
        let files: Vec<String> =
            attached.iter().map(|file| format!("{} ({} bytes)", file.name, file.text.len())).collect();
        match files.is_empty() {
            true => terminal::note("(no file goes with the next message)"),
            false => terminal::note(&format!("(with the next message: {})", files.join(", "))),
        }
    }

    /// Shows the conversation's name, or keeps it under another one.
    pub(super) fn name(&mut self, name: Option<&str>) {
        let whole = self.state.whole(&self.session.conversation);
        let keeper = &mut self.state.keeper;
        let Some(name) = name else {
            return match (keeper.name(), keeper.keeps()) {
                (Some(name), _) => terminal::note(name),
                (None, true) => terminal::note("(the first message will name the conversation)"),
                (None, false) => terminal::note("(this conversation is not kept)"),
            };
        };
        let model = self.state.location.absolute();
        let chats = Home::find().map(|home| Chats::of(&home));
        let renamed = chats.and_then(|chats| keeper.rename(chats, name, &model, &whole));
        match renamed {
            Ok(()) => terminal::note(&format!("(kept as {name})")),
            Err(failure) => self.fail(&failure),
        }
    }

    /// Continues a saved conversation, or a kept one, and shows it.
    pub(super) fn load(&mut self, name: &str, reader: &mut Reader) -> Result<(), Failure> {
        let path = Path::new(name);
        let is_file = path.exists() || name.contains(std::path::is_separator) || name.ends_with(".json");
        let read = match is_file {
            true => SavedConversation::read(path).map_err(Failure::from),
            false => Home::find().and_then(|home| Ok(Chats::of(&home).read(name)?.conversation)),
        };
        match read.and_then(|conversation| self.check(&conversation).map(|()| conversation)) {
            Ok(conversation) => {
                terminal::note(&format!("(loaded {})", turns(conversation.turns.len())));
                self.session.conversation = conversation;
                self.state.dropped.clear();
                let kept = (!is_file && self.state.keeper.keeps()).then(Home::find).transpose();
                let resumed = kept.and_then(|home| match home {
                    Some(home) => self.state.keeper.resume(Chats::of(&home), Some(name)).map(|_| ()),
                    // A file stays as it is.
                    None => {
                        self.state.keeper.begin();
                        Ok(())
                    }
                });
                if let Err(failure) = resumed {
                    self.fail(&failure);
                }
                self.show_conversation()?;
                self.show_waiting()?;
                self.give_results(reader)?;
                self.keep();
            }
            Err(failure) => self.fail(&failure),
        }
        Ok(())
    }

    /// Writes the conversation; replaces an existing file only if asked or confirmed.
    pub(super) fn save(&mut self, path: &Path, replace: bool, reader: &mut Reader) -> Result<(), Failure> {
        let shown = path.display();
        if !replace && path.is_file() {
            match reader.confirm(&format!("{shown} exists already. Replace it? [y/N] "))? {
                Some(true) => {}
                Some(false) => {
                    terminal::note("(not saved)");
                    return Ok(());
                }
                None => {
                    self.fail(&format!(
                        "{shown} exists already: save to another file, or replace it with /save! {shown}"
                    ));
                    return Ok(());
                }
            }
        }
        let whole = self.state.whole(&self.session.conversation);
        let saved = SavedConversation::new(&self.state.location.name(), &whole);
        match saved.write(path) {
            Ok(()) => terminal::note(&format!("(saved to {shown})")),
            Err(failure) => self.fail(&failure),
        }
        Ok(())
    }

    /// Sets the system prompt, if the model's template accepts it and it fits the context.
    pub(super) fn set_system(&mut self, text: Option<String>) {
        let before = std::mem::replace(&mut self.session.conversation.system, text);
        match self.check(&self.session.conversation) {
            Ok(()) if self.session.conversation.system.is_none() => terminal::note("(system prompt removed)"),
            Ok(()) => terminal::note("(system prompt changed)"),
            Err(failure) => {
                self.fail(&failure);
                self.session.conversation.system = before;
            }
        }
    }

    /// Shows tokens, speed and memory.
    pub(super) fn stats(&mut self) {
        let rate = |tokens: usize, time: std::time::Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
        if let Some(a) = &self.last {
            terminal::note(&format!(
                "last answer: {} prompt tokens from the cache, {} computed at {:.0}/s; {} answer tokens at {:.1}/s",
                a.reused,
                a.prefilled,
                rate(a.prefilled, a.prefill_time),
                a.decoded,
                rate(a.decoded, a.decode_time)
            ));
        }
        let plan = self.plan;
        let peak = resources::peak_resident_bytes();
        terminal::note(&format!(
            "{}, {} of {} tokens in the context; reserved {:.1} MB{}; {}, {} threads; seed {}",
            turns(self.session.conversation.turns.len()),
            self.session.model.generator.position(),
            plan.context(),
            plan.bytes() as f64 / 1e6,
            peak.map_or(String::new(), |bytes| format!(", peak memory {:.1} MB", bytes as f64 / 1e6)),
            self.session.model.generator.sequence().processors(),
            plan.threads(),
            self.sampling.seed,
        ));
    }
}

/// A number of turns.
pub(super) fn turns(turns: usize) -> String {
    format!("{turns} turn{}", if turns == 1 { "" } else { "s" })
}
