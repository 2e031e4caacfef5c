//! GPT-2's mapping of bytes to printable characters (Radford et al. 2019, `bytes_to_unicode`).

/// The character that stands for `byte`.
pub(crate) fn char_of(byte: u8) -> char {
    match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
        0..=0x20 => shifted(u32::from(byte)),
        0x7F..=0xA0 => shifted(u32::from(byte) - 0x7F + 0x21),
        0xAD => shifted(0x43),
    }
}

/// The byte that `letter` stands for.
pub(super) fn byte_of(letter: char) -> Option<u8> {
    match u32::from(letter) {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => u8::try_from(code).ok(),
        code @ 0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        code @ 0x121..=0x142 => u8::try_from(code - 0x121 + 0x7F).ok(),
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// The bytes that `token` spells; its own bytes if it does not use the alphabet, so that no merge can produce it.
pub(super) fn raw_bytes(token: &str) -> Vec<u8> {
    token.chars().map(byte_of).collect::<Option<_>>().unwrap_or_else(|| token.as_bytes().to_vec())
}

/// The spelling of `bytes`.
pub(super) fn spell(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char_of(byte)).collect()
}

/// The characters after Latin-1: for the 33 bytes up to the space, the 34 from 0x7F, and the soft hyphen.
fn shifted(place: u32) -> char {
    char::from_u32(0x100 + place).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    #[test]
    fn every_byte_has_a_letter_of_the_oracle_and_back() {
        let oracle = ByteLevel::alphabet();
        for byte in 0..=u8::MAX {
            assert!(oracle.contains(&char_of(byte)), "{byte:#x}");
            assert_eq!(byte_of(char_of(byte)), Some(byte));
        }
        assert_eq!(oracle.len(), 256);
        assert_eq!((0..=0x10FFFF).filter_map(char::from_u32).filter_map(byte_of).count(), 256);
    }
}
