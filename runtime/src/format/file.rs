//! A checked view of a model file.

use super::{
    ALIGN, Config, Directory, FormatError, SectionBytes, SectionKind, SectionRecord, TensorRecord,
    TensorTable, checksum,
};
use crate::chat::ChatTemplate;
use crate::tokenizer::{Tokenizer, layout};

/// A valid model file as specified in `FORMAT.md`; all views that it returns are inside the file.
#[derive(Clone, Copy, Debug)]
pub struct ModelFile<'f> {
    bytes: &'f [u8],
    directory: Directory,
    config: Config,
    table: TensorTable<'f>,
    tensors: &'f [u8],
    tokenizer: Tokenizer<'f>,
    chat: Option<ChatTemplate<'f>>,
    provenance: &'f str,
}

impl<'f> ModelFile<'f> {
    /// Parses `bytes`, aligned to 64 bytes, without copying.
    ///
    /// Reads the header, the tables and the small sections, which takes microseconds. [`ModelFile::verify`] checks the
    /// checksums of the others; damaged weights can only cause wrong text.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn parse(bytes: &'f [u8]) -> Result<ModelFile<'f>, FormatError> {
        let directory = Directory::parse(bytes)?;
        if !bytes.as_ptr().addr().is_multiple_of(ALIGN as usize) {
            return Err(FormatError::Misaligned { expected: ALIGN as usize });
        }
        let section = |kind| directory.bytes(bytes, kind);
        let config = Config::parse(section(SectionKind::Config)?, directory.version())?;
        let tensors = section(SectionKind::Tensors)?;
        let table = TensorTable::parse(section(SectionKind::TensorTable)?, config, tensors.len() as u64)?;
        let tokenizer = section(SectionKind::Tokenizer)?;
        if layout::version(tokenizer) > directory.version() {
            return Err(FormatError::Reserved { kind: SectionKind::Tokenizer });
        }
        let tokenizer = Tokenizer::parse(tokenizer, config.vocab)?;
        if tokenizer.adds_bos() && config.bos.is_none() {
            let expected = "a token: the tokenizer begins texts with it";
            return Err(FormatError::Config {
                field: "begin-of-text token",
                expected,
                found: u32::MAX.into(),
            });
        }
        let chat = match section(SectionKind::Chat) {
            Ok(chat) => Some(ChatTemplate::parse(chat)?),
            Err(FormatError::MissingSection { .. }) => None,
            Err(error) => return Err(error),
        };
        let kind = SectionKind::Provenance;
        let provenance = core::str::from_utf8(section(kind)?);
        let provenance = provenance.map_err(|e| FormatError::NotUtf8 { kind, at: e.valid_up_to() as u64 })?;
        Ok(ModelFile { bytes, directory, config, table, tensors, tokenizer, chat, provenance })
    }

    /// Checks all section checksums and padding; reads the whole file.
    ///
    /// # Errors
    /// [`FormatError::SectionChecksum`], [`FormatError::Padding`].
    pub fn verify(&self) -> Result<(), FormatError> {
        for SectionBytes { name, padding, bytes, checksum: expected } in
            self.directory.section_bytes(self.bytes)
        {
            let found = checksum(bytes);
            if found != expected {
                return Err(FormatError::SectionChecksum { name, expected, found });
            }
            if padding.iter().any(|&b| b != 0) {
                return Err(FormatError::Padding { name });
            }
        }
        Ok(())
    }

    /// The hyperparameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> Tokenizer<'f> {
        self.tokenizer
    }

    /// The chat template; `None` for a base model.
    pub fn chat(&self) -> Option<ChatTemplate<'f>> {
        self.chat
    }

    /// The origin of the model: a JSON object.
    pub fn provenance(&self) -> &'f str {
        self.provenance
    }

    /// The tensors in canonical order.
    pub fn tensors(&self) -> &TensorTable<'f> {
        &self.table
    }

    /// The bytes of a tensor of this file's table.
    pub fn tensor_bytes(&self, record: &TensorRecord) -> &'f [u8] {
        let start = record.offset as usize;
        // The table's checks guarantee that every tensor is inside the section.
        self.tensors.get(start..start + record.length as usize).unwrap_or(&[])
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> &'f [u8] {
        self.bytes
    }

    /// The directory records of all sections, in file order.
    pub fn sections(&self) -> impl Iterator<Item = SectionRecord> + '_ {
        self.directory.sections()
    }
}
