//! Files whose text goes into a message.

use crate::failure::Failure;
use crate::input;
use clap::Args;
use std::path::PathBuf;

/// Files before a prompt or a message.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct FileFlags {
    /// Put the text of this file before the prompt, or in a chat into the first message; may be repeated
    #[arg(long = "file", value_name = "PATH")]
    pub(crate) files: Vec<PathBuf>,
}

/// A file's name and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AttachedFile {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl AttachedFile {
    /// Reads a file of text.
    ///
    /// # Errors
    /// As [`input::attachment`].
    pub(crate) fn read(path: &std::path::Path) -> Result<AttachedFile, Failure> {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(AttachedFile { name, text: input::attachment(path)? })
    }
}

impl FileFlags {
    /// Reads the files.
    ///
    /// # Errors
    /// As [`AttachedFile::read`].
    pub(crate) fn read(&self) -> Result<Vec<AttachedFile>, Failure> {
        self.files.iter().map(|path| AttachedFile::read(path)).collect()
    }
}

/// A message with files before it, each with its name and between fences.
pub(crate) fn message_with(files: &[AttachedFile], message: &str) -> String {
    let mut parts: Vec<String> = files.iter().map(shown).collect();
    parts.extend((!message.is_empty()).then(|| message.to_string()));
    parts.join("\n\n")
}

fn shown(AttachedFile { name, text }: &AttachedFile) -> String {
    let backticks = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(backticks.max(2) + 1);
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{name}:\n\n{fence}\n{text}{end}{fence}")
}

#[cfg(test)]
mod tests {
    use super::{AttachedFile, message_with};

    #[test]
    fn files_come_before_the_message_between_fences() {
        let file = |name: &str, text: &str| AttachedFile { name: name.to_string(), text: text.to_string() };
        let files = [file("a.txt", "one\n"), file("b.md", "```\ntwo\n```")];
        let expected = "a.txt:\n\n```\none\n```\n\nb.md:\n\n````\n```\ntwo\n```\n````\n\nsum up";
        assert_eq!(message_with(&files, "sum up"), expected);
        assert_eq!(message_with(&files[..1], ""), "a.txt:\n\n```\none\n```");
        assert_eq!(message_with(&[], "x"), "x");
    }
}
