//! gzip as gzip(1) reads it: any number of members, and zeros between or behind them.

use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, ErrorKind, Read};

/// A decompressing reader.
pub(super) struct Gzip<R: BufRead> {
    state: State<R>,
}

enum State<R: BufRead> {
    Member(Box<GzDecoder<R>>),
    Between(R),
    Done,
}

impl<R: BufRead> Gzip<R> {
    pub(super) fn new(packed: R) -> Gzip<R> {
        // The first member is required: an empty file is damaged, and so is one of zeros.
        Gzip { state: State::Member(Box::new(GzDecoder::new(packed))) }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Member(mut member) => {
                    let read = member.read(out);
                    self.state = match read {
                        Ok(0) => State::Between(member.into_inner()),
                        _ => State::Member(member),
                    };
                    if !matches!(read, Ok(0)) {
                        return read;
                    }
                }
                State::Between(mut packed) => match next(&mut packed)? {
                    // The first byte of a member's head.
                    Some(0x1F) => self.state = State::Member(Box::new(GzDecoder::new(packed))),
                    Some(other) => {
                        return Err(io::Error::new(
                            ErrorKind::InvalidData,
                            format!(
                                "expected the end, or another gzip member, found a byte {other:#04x} behind the last one"
                            ),
                        ));
                    }
                    None => return Ok(0),
                },
                State::Done => return Ok(0),
            }
        }
    }
}

/// Passes over zeros, with which tapes and disks fill their blocks; the byte behind them is left where it is.
fn next(packed: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        let bytes = match packed.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            bytes => bytes?,
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        match bytes.iter().position(|&byte| byte != 0) {
            Some(at) => {
                let byte = bytes[at];
                packed.consume(at);
                return Ok(Some(byte));
            }
            None => {
                let all = bytes.len();
                packed.consume(all);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Gzip;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::{BufReader, Read, Write};

    fn member(text: &str) -> Vec<u8> {
        let mut out = GzEncoder::new(Vec::new(), Compression::fast());
        out.write_all(text.as_bytes()).unwrap();
        out.finish().unwrap()
    }

    /// With buffers of any size: members and zeros end in the middle of one.
    fn unpack(packed: &[u8]) -> Result<String, String> {
        let all: Vec<_> = [1, 2, 3, 7, 64, 1 << 16]
            .into_iter()
            .map(|size| {
                let mut text = String::new();
                let read = Gzip::new(BufReader::with_capacity(size, packed)).read_to_string(&mut text);
                read.map(|_| text).map_err(|error| error.to_string())
            })
            .collect();
        assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
        all[0].clone()
    }

    #[test]
    fn members_and_zeros_are_read_as_gzip_does() {
        let [one, two, none] = [member("one "), member("two"), member("")];
        let text = |parts: &[&[u8]]| unpack(&parts.concat());
        assert_eq!(text(&[&one]), Ok("one ".into()));
        assert_eq!(text(&[&none]), Ok(String::new()));
        assert_eq!(text(&[&one, &none, &two]), Ok("one two".into()));
        assert_eq!(text(&[&one, &two, &[0; 1000]]), Ok("one two".into()));
        assert_eq!(text(&[&one, &[0; 511], &two, &[0]]), Ok("one two".into()));
    }

    #[test]
    fn what_is_cut_off_or_followed_by_something_else_is_an_error() {
        let one = member("one and some more text");
        for length in 0..one.len() {
            assert!(unpack(&one[..length]).is_err(), "{length}");
            let second = [&one[..], &one[..length]].concat();
            assert_eq!(unpack(&second).is_err(), length > 0, "{length}");
        }
        for tail in [&b"x"[..], b"\0\0x", b"\x1f", b"\x1fx", b"\n"] {
            assert!(unpack(&[&one[..], tail].concat()).is_err(), "{tail:?}");
        }
        assert!(unpack(&[0; 100]).is_err() && unpack(b"plain text").is_err());
        let mut damaged = one.clone();
        let checksum = damaged.len() - 6;
        damaged[checksum] ^= 1;
        assert!(unpack(&damaged).is_err());
    }
}
