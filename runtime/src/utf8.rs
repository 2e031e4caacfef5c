//! Incremental UTF-8 decoding.

/// Decodes the bytes of tokens, which can end inside a character.
///
/// The text equals `String::from_utf8_lossy` of all bytes: each maximal invalid sequence becomes one U+FFFD. At most three
/// bytes are held back.
#[derive(Clone, Debug, Default)]
pub struct Utf8Stream {
    /// The beginning of a character, never a whole one.
    held: [u8; 4],
    len: usize,
}

const REPLACEMENT: &str = "\u{fffd}";

impl Utf8Stream {
    /// An empty stream.
    pub const fn new() -> Utf8Stream {
        Utf8Stream { held: [0; 4], len: 0 }
    }

    /// Takes more bytes, and passes complete characters to `show`.
    pub fn push(&mut self, mut bytes: &[u8], show: &mut (impl FnMut(&str) + ?Sized)) {
        while self.len > 0 {
            let Some((&byte, rest)) = bytes.split_first() else { return };
            self.held[self.len] = byte;
            match core::str::from_utf8(&self.held[..=self.len]) {
                Ok(character) => {
                    show(character);
                    self.len = 0;
                    bytes = rest;
                }
                // Still the beginning of a character: at most three bytes.
                Err(error) if error.error_len().is_none() => {
                    self.len += 1;
                    bytes = rest;
                }
                // The bytes held back are a maximal invalid sequence; the new byte begins another one.
                Err(_) => {
                    show(REPLACEMENT);
                    self.len = 0;
                }
            }
        }
        loop {
            match core::str::from_utf8(bytes) {
                Ok("") => return,
                Ok(text) => return show(text),
                Err(error) => {
                    let (valid, rest) = bytes.split_at(error.valid_up_to());
                    if let Ok(text) = core::str::from_utf8(valid)
                        && !text.is_empty()
                    {
                        show(text);
                    }
                    let Some(bad) = error.error_len() else {
                        self.held[..rest.len()].copy_from_slice(rest);
                        self.len = rest.len();
                        return;
                    };
                    show(REPLACEMENT);
                    bytes = &rest[bad..];
                }
            }
        }
    }

    /// Ends the input: passes on what is held back as one U+FFFD. The stream can be reused.
    pub fn finish(&mut self, show: &mut (impl FnMut(&str) + ?Sized)) {
        if self.len > 0 {
            show(REPLACEMENT);
        }
        self.len = 0;
    }

    /// Bytes held back, at most three.
    pub fn held(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::Utf8Stream;
    use proptest::prelude::*;
    use std::string::String;
    use std::vec::Vec;

    fn streamed<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> String {
        let mut stream = Utf8Stream::new();
        let mut text = String::new();
        for piece in pieces {
            stream.push(piece, &mut |t: &str| text.push_str(t));
            assert!(stream.held() <= 3);
        }
        stream.finish(&mut |t: &str| text.push_str(t));
        text
    }

    #[test]
    fn every_split_in_two_and_single_bytes() {
        let cases: [&[u8]; 12] = [
            b"",
            b"plain",
            "gr\u{fc}n \u{20ac} \u{1f600}".as_bytes(),
            b"\xff\xfe",
            b"\xe2\x82",
            b"\xe2\x28\xa1",
            b"\xf0\x9f\x98",
            b"\xf0\x9f\x98\xf0\x9f\x98\x80",
            b"\xc0\x80\xed\xa0\x80\xf5\x80",
            b"\xf4\x90\x80\x80",
            b"a\x80\x80b\xe0\x9f\x80",
            b"\xe2\x82\xe2\x82\xac",
        ];
        for bytes in cases {
            let expected = String::from_utf8_lossy(bytes);
            for cut in 0..=bytes.len() {
                assert_eq!(streamed([&bytes[..cut], &bytes[cut..]]), expected, "{bytes:02x?} at {cut}");
            }
            assert_eq!(streamed(bytes.chunks(1)), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn shows_a_character_as_soon_as_it_is_whole() {
        let mut stream = Utf8Stream::new();
        let mut seen = Vec::new();
        for byte in "a\u{20ac}".bytes() {
            let mut text = String::new();
            stream.push(&[byte], &mut |t: &str| text.push_str(t));
            seen.push(text);
        }
        assert_eq!(seen, ["a", "", "", "\u{20ac}"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 4000, failure_persistence: None, ..ProptestConfig::default()
        })]

        /// Bytes near the borders of UTF-8's ranges, real characters and anything, cut anywhere.
        #[test]
        fn equals_from_utf8_lossy(
            parts in proptest::collection::vec(prop_oneof![
                any::<char>().prop_map(|c| String::from(c).into_bytes()),
                any::<u8>().prop_map(|b| std::vec![b]),
                prop::sample::select(&[0x7f_u8, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xdf, 0xe0,
                    0xe2, 0xed, 0xef, 0xf0, 0xf1, 0xf4, 0xf5, 0xff][..]).prop_map(|b| std::vec![b]),
            ], 0..40),
            cuts in proptest::collection::vec(0_usize..6, 80),
        ) {
            let bytes = parts.concat();
            let mut rest = &bytes[..];
            let mut pieces = Vec::new();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            prop_assert_eq!(streamed(pieces), String::from_utf8_lossy(&bytes));
        }
    }
}
