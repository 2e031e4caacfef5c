//! The texts of a chat template: a table of lengths, then the texts.

use super::{HEAD, wrong};
use crate::format::{FormatError, SectionKind, read_u32};

/// Texts of the literal form.
pub(super) const LITERAL_PARTS: usize = 10;
/// Texts of the Jinja form.
pub(super) const JINJA_PARTS: usize = 3;

pub(super) struct Parts<'f, const N: usize> {
    pub(super) texts: [&'f str; N],
}

impl<'f, const N: usize> Parts<'f, N> {
    /// Reads the table and the texts, which have to end with `bytes`.
    pub(super) fn parse(bytes: &'f [u8]) -> Result<Parts<'f, N>, FormatError> {
        let mut texts = [""; N];
        let mut start = HEAD + 4 * N;
        for (index, slot) in texts.iter_mut().enumerate() {
            let Some(length) = read_u32(bytes, HEAD + 4 * index) else {
                return wrong("the section is shorter than its table of lengths");
            };
            let end = start.checked_add(length as usize);
            let Some((end, text)) = end.and_then(|end| Some((end, bytes.get(start..end)?))) else {
                return wrong("a text ends behind the end of the section");
            };
            *slot = core::str::from_utf8(text).map_err(|error| FormatError::NotUtf8 {
                kind: SectionKind::Chat,
                at: (start + error.valid_up_to()) as u64,
            })?;
            start = end;
        }
        if start != bytes.len() {
            return wrong("bytes are left behind the last text");
        }
        Ok(Parts { texts })
    }

    /// Writes form, flags, table and texts; nothing if a text is too long for the table.
    pub(super) fn emit(
        &self,
        form: u32,
        flags: u32,
        write: &mut dyn FnMut(&[u8]),
    ) -> Result<(), FormatError> {
        if self.texts.iter().any(|text| u32::try_from(text.len()).is_err()) {
            return wrong("a text has 4 GiB or more");
        }
        write(&form.to_le_bytes());
        write(&flags.to_le_bytes());
        for text in self.texts {
            write(&(text.len() as u32).to_le_bytes());
        }
        for text in self.texts {
            write(text.as_bytes());
        }
        Ok(())
    }
}
