//! Stop sequences, which can span several tokens.

use crate::utf8::Utf8Stream;
use thiserror::Error;

/// Whether the output contains a stop sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "generation has to end when a stop sequence is complete"]
pub enum StopStatus {
    /// No stop sequence so far.
    Continue,
    /// A stop sequence is complete; the output ends before it.
    Stopped,
}

/// Why stop sequences are rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StopError {
    /// A stop sequence is empty.
    #[error("stop sequence {index} is empty")]
    Empty {
        /// Its index.
        index: usize,
    },
    /// The buffer is shorter than the longest stop sequence.
    #[error("the buffer for stop sequences has {found} bytes, expected at least {expected}")]
    Buffer {
        /// Required bytes: [`StopMatcher::buffer_len`].
        expected: usize,
        /// Bytes of the buffer.
        found: usize,
    },
}

/// Passes bytes through until they contain a stop sequence.
///
/// The output ends before the sequence that is complete first (before the longest of those that end at the same byte),
/// however the input is cut. Bytes that may begin a sequence are held back until that is decided.
#[derive(Debug)]
pub struct StopMatcher<'s> {
    stops: &'s [&'s [u8]],
    /// The bytes held back: the longest suffix of the input that is a prefix of a stop sequence.
    buffer: &'s mut [u8],
    held: usize,
    stopped: bool,
}

impl<'s> StopMatcher<'s> {
    /// Buffer size for these sequences, bytes: the length of the longest.
    pub fn buffer_len(stops: &[&[u8]]) -> usize {
        stops.iter().map(|stop| stop.len()).max().unwrap_or(0)
    }

    /// A matcher for `stops`, none of them empty, that holds bytes back in `buffer`.
    pub fn new(stops: &'s [&'s [u8]], buffer: &'s mut [u8]) -> Result<StopMatcher<'s>, StopError> {
        if let Some(index) = stops.iter().position(|stop| stop.is_empty()) {
            return Err(StopError::Empty { index });
        }
        let [expected, found] = [Self::buffer_len(stops), buffer.len()];
        if found < expected {
            return Err(StopError::Buffer { expected, found });
        }
        Ok(StopMatcher { stops, buffer, held: 0, stopped: false })
    }

    /// Takes the bytes of the next token, and passes those that are not part of a stop sequence to `show`.
    ///
    /// After a stop sequence, discards everything until [`StopMatcher::reset`].
    pub fn push(&mut self, mut bytes: &[u8], show: &mut dyn FnMut(&[u8])) -> StopStatus {
        while !self.stopped {
            if self.held == 0 {
                let begins = |byte: &u8| self.stops.iter().any(|stop| stop.first() == Some(byte));
                let (safe, rest) = bytes.split_at(bytes.iter().position(begins).unwrap_or(bytes.len()));
                if !safe.is_empty() {
                    show(safe);
                }
                bytes = rest;
            }
            let Some((&byte, rest)) = bytes.split_first() else { return StopStatus::Continue };
            bytes = rest;
            self.step(byte, show);
        }
        StopStatus::Stopped
    }

    /// Passes on the bytes held back: the output ended without a stop sequence.
    pub fn finish(&mut self, show: &mut dyn FnMut(&[u8])) {
        if self.held > 0 && !self.stopped {
            show(&self.buffer[..self.held]);
        }
        self.held = 0;
    }

    /// Starts a new output.
    pub fn reset(&mut self) {
        self.held = 0;
        self.stopped = false;
    }

    /// Takes one byte. The buffer has room: the bytes held back are shorter than their stop sequence.
    fn step(&mut self, byte: u8, show: &mut dyn FnMut(&[u8])) {
        self.buffer[self.held] = byte;
        self.held += 1;
        let held = &self.buffer[..self.held];
        let complete = self.stops.iter().filter(|stop| held.ends_with(stop)).map(|stop| stop.len()).max();
        self.stopped = complete.is_some();
        let safe = match complete {
            Some(longest) => self.held - longest,
            None => {
                let may_begin = |from: &usize| self.stops.iter().any(|stop| stop.starts_with(&held[*from..]));
                (0..self.held).find(may_begin).unwrap_or(self.held)
            }
        };
        if safe > 0 {
            show(&held[..safe]);
            self.buffer.copy_within(safe..self.held, 0);
            self.held -= safe;
        }
    }
}

/// Decodes the bytes of tokens to text, up to a stop sequence.
#[derive(Debug)]
pub struct TextStream<'s> {
    stop: StopMatcher<'s>,
    utf8: Utf8Stream,
}

impl<'s> TextStream<'s> {
    /// A stream that ends before the first of `stops`; see [`StopMatcher::new`].
    pub fn new(stops: &'s [&'s [u8]], buffer: &'s mut [u8]) -> Result<TextStream<'s>, StopError> {
        Ok(TextStream { stop: StopMatcher::new(stops, buffer)?, utf8: Utf8Stream::new() })
    }

    /// Takes the bytes of the next token, and passes complete characters to `show`.
    pub fn push(&mut self, token: &[u8], show: &mut dyn FnMut(&str)) -> StopStatus {
        let TextStream { stop, utf8 } = self;
        let status = stop.push(token, &mut |bytes| utf8.push(bytes, show));
        if status == StopStatus::Stopped {
            utf8.finish(show);
        }
        status
    }

    /// Ends the output: passes on what is held back, and starts a new output.
    pub fn finish(&mut self, show: &mut dyn FnMut(&str)) {
        let TextStream { stop, utf8 } = self;
        stop.finish(&mut |bytes| utf8.push(bytes, show));
        utf8.finish(show);
        stop.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::String;
    use std::vec::Vec;

    /// What is shown, by looking at every end in turn.
    fn naive<'t>(text: &'t [u8], stops: &[&[u8]]) -> (&'t [u8], StopStatus) {
        for end in 0..=text.len() {
            let ending = stops.iter().filter(|stop| text[..end].ends_with(stop)).map(|stop| stop.len());
            if let Some(longest) = ending.max() {
                return (&text[..end - longest], StopStatus::Stopped);
            }
        }
        (text, StopStatus::Continue)
    }

    fn streamed(pieces: &[&[u8]], stops: &[&[u8]]) -> (Vec<u8>, StopStatus) {
        let mut buffer = std::vec![0; StopMatcher::buffer_len(stops)];
        let mut matcher = StopMatcher::new(stops, &mut buffer).unwrap();
        let mut shown = Vec::new();
        let mut status = StopStatus::Continue;
        for piece in pieces {
            status = matcher.push(piece, &mut |bytes| shown.extend_from_slice(bytes));
        }
        matcher.finish(&mut |bytes| shown.extend_from_slice(bytes));
        (shown, status)
    }

    #[test]
    fn every_split_in_three_equals_the_naive_search() {
        let cases: [(&[u8], &[&[u8]]); 8] = [
            (b"hello world", &[b"lo w"]),
            (b"aaaaab", &[b"aab"]),
            (b"abcabcabd", &[b"abcabd"]),
            (b"xabcdx", &[b"abcd", b"bc"]),
            (b"xabcx", &[b"bc", b"abc", b"c"]),
            (b"no stop her", &[b"here", b"nope"]),
            (b"\n\nUser: hi", &[b"\n\nUser:", b"\n\n\n"]),
            ("a\u{20ac}b".as_bytes(), &[b"\x82"]),
        ];
        for (text, stops) in cases {
            let (expected, status) = naive(text, stops);
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    let pieces = [&text[..first], &text[first..second], &text[second..]];
                    assert_eq!(streamed(&pieces, stops), (expected.to_vec(), status), "{text:?} {stops:?}");
                }
            }
        }
    }

    #[test]
    fn holds_back_no_more_than_a_beginning() {
        let stops: [&[u8]; 1] = [b"<end>"];
        let mut buffer = [0; 5];
        let mut matcher = StopMatcher::new(&stops, &mut buffer).unwrap();
        let mut shown = Vec::new();
        let _ = matcher.push(b"text <en", &mut |b| shown.extend_from_slice(b));
        assert_eq!(shown, b"text ");
        let _ = matcher.push(b"ough", &mut |b| shown.extend_from_slice(b));
        assert_eq!(shown, b"text <enough");
        assert_eq!(matcher.push(b"<end> more", &mut |b| shown.extend_from_slice(b)), StopStatus::Stopped);
        assert_eq!(matcher.push(b"more", &mut |b| shown.extend_from_slice(b)), StopStatus::Stopped);
        assert_eq!(shown, b"text <enough");
        matcher.reset();
        assert_eq!(matcher.push(b"again", &mut |b| shown.extend_from_slice(b)), StopStatus::Continue);
        assert_eq!(shown, b"text <enoughagain");
    }

    #[test]
    fn refuses_what_cannot_work() {
        let empty: [&[u8]; 2] = [b"a", b""];
        assert_eq!(StopMatcher::new(&empty, &mut [0; 9]).unwrap_err(), StopError::Empty { index: 1 });
        let long: [&[u8]; 1] = [b"abc"];
        let error = StopError::Buffer { expected: 3, found: 2 };
        assert_eq!(StopMatcher::new(&long, &mut [0; 2]).unwrap_err(), error);
        assert_eq!(StopMatcher::buffer_len(&[]), 0);
        assert!(StopMatcher::new(&[], &mut []).is_ok());
    }

    #[test]
    fn text_stream_joins_characters_and_stops() {
        let stops: [&[u8]; 1] = ["\u{20ac}!".as_bytes()];
        let mut buffer = [0; 4];
        let mut stream = TextStream::new(&stops, &mut buffer).unwrap();
        let mut shown = String::new();
        for (token, expected) in [(&b"5 \xe2\x82"[..], "5 "), (b"\xac", "5 "), (b"?\xf0\x9f", "5 \u{20ac}?")]
        {
            assert_eq!(stream.push(token, &mut |t| shown.push_str(t)), StopStatus::Continue);
            assert_eq!(shown, expected);
        }
        assert_eq!(stream.push(b"\x98\x80\xe2\x82\xac!", &mut |t| shown.push_str(t)), StopStatus::Stopped);
        assert_eq!(shown, "5 \u{20ac}?\u{1f600}");
        stream.finish(&mut |t| shown.push_str(t));
        assert_eq!(shown, "5 \u{20ac}?\u{1f600}");
        assert_eq!(stream.push(b"next \xe2", &mut |t| shown.push_str(t)), StopStatus::Continue);
        stream.finish(&mut |t| shown.push_str(t));
        assert_eq!(shown, "5 \u{20ac}?\u{1f600}next \u{fffd}");
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 2000, failure_persistence: None, ..ProptestConfig::default()
        })]

        /// A small alphabet, so that sequences appear, nearly appear and overlap.
        #[test]
        fn random_texts_equal_the_naive_search(
            text in "[ab]{0,40}|[abc]{0,60}",
            stops in proptest::collection::vec("[abc]{1,6}", 0..4),
            cuts in proptest::collection::vec(1_usize..7, 60),
        ) {
            let stops: Vec<&[u8]> = stops.iter().map(|stop| stop.as_bytes()).collect();
            let mut rest = text.as_bytes();
            let mut pieces = Vec::new();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            let (expected, status) = naive(text.as_bytes(), &stops);
            prop_assert_eq!(streamed(&pieces, &stops), (expected.to_vec(), status));
        }
    }
}
