//! A vocabulary trained on the spot, and random text.

use serde_json::{Value, json};
use thimble_converter::tokenizer::Vocabulary;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, PreTokenizerWrapper, Tokenizer, TokenizerBuilder};

/// Text to train on: enough for some hundred merges, in several scripts.
const CORPUS: &str = "The quick brown fox jumps over the lazy dog. It's a dog's life, isn't it? \
    They'll've said that we'd been there; I'm sure you're right.\n\n    def main(args):\n        \
    return 1234567890 + 42\n    while true { there = other.then(10, 100); }\r\n\
    \u{4F60}\u{597D}\u{FF0C}\u{4E16}\u{754C}\u{3002}\u{4F60}\u{597D} na\u{EF}ve caf\u{E9}s d\u{E9}j\u{E0} vu \
    \u{442}\u{43E}\u{440}\u{442} \u{438} \u{442}\u{43E}\u{440}\u{442} \u{1F600}\u{1F600}\u{1F680} \u{663}\u{664} \
    ---------- ========== ...... ''' \u{201C}quoted\u{201D} \u{2014} \u{A0}\u{2003}\u{3000}  the other theatre \
    aaaaaaaaaaaaaaaa abababababab the their them then these those through thought\n\n\n\t\t\tend";

/// A trained byte-level tokenizer with `<|end|>` and `<|im_start|>` special, and two added runs of blanks.
pub(crate) fn trained(vocab: usize, digits_apart: bool) -> Tokenizer {
    trained_with(vocab, pre_tokenizer(digits_apart))
}

fn trained_with(vocab: usize, pre_tokenizer: PreTokenizerWrapper) -> Tokenizer {
    let mut tokenizer =
        TokenizerBuilder::<BPE, tokenizers::NormalizerWrapper, _, ByteLevel, ByteLevel>::new()
            .with_model(BPE::default())
            .with_normalizer(None)
            .with_pre_tokenizer(Some(pre_tokenizer))
            .with_post_processor(Some(ByteLevel::default()))
            .with_decoder(Some(ByteLevel::default()))
            .build()
            .expect("a whole tokenizer");
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(vocab)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from("<|end|>", true), AddedToken::from("<|im_start|>", true)])
        .build();
    let corpus = CORPUS.split_inclusive('\n');
    tokenizer.train(&mut trainer, corpus).expect("training succeeds");
    let mut tokenizer: Tokenizer = tokenizer.to_string(false).expect("JSON").parse().expect("read back");
    tokenizer
        .add_tokens([AddedToken::from("    ", false), AddedToken::from("      ", false)])
        .expect("valid tokens");
    tokenizer.add_special_tokens([AddedToken::from("<|im_start|>user", true)]).expect("valid tokens");
    tokenizer
}

pub(crate) fn pre_tokenizer(digits_apart: bool) -> PreTokenizerWrapper {
    let level = PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, true));
    if !digits_apart {
        return level;
    }
    let digits = PreTokenizerWrapper::Digits(Digits::new(true));
    PreTokenizerWrapper::Sequence(Sequence::new(vec![digits, level]))
}

/// A tokenizer as a family's `tokenizer.json` describes it, trained with the family's own words.
///
/// `pattern` is the regex of its `Split`; without one the pre-tokenizer is ByteLevel's.
pub(crate) fn family(pattern: &str, ignore_merges: bool, nfc: bool, vocab: usize) -> Tokenizer {
    let trained = trained_with(vocab, regex_pre_tokenizer(pattern));
    let mut json: Value = serde_json::from_str(&trained.to_string(false).expect("JSON")).expect("JSON");
    json["model"]["ignore_merges"] = ignore_merges.into();
    if ignore_merges {
        // Tokens that no merge makes, which only a lookup of the whole word finds: one of them long.
        let entries = json["model"]["vocab"].as_object_mut().expect("an object");
        let next = vocab + 8;
        for (place, word) in ["\u{120}Zqx", "qqqzzz", &"xyz".repeat(120), "!?!?"].into_iter().enumerate() {
            entries.insert(word.to_owned(), (next + place).into());
        }
    }
    if nfc {
        json["normalizer"] = json!({"type": "NFC"});
    }
    json.to_string().parse().expect("a tokenizer")
}

/// `Split` by a regex, then ByteLevel without one.
fn regex_pre_tokenizer(pattern: &str) -> PreTokenizerWrapper {
    serde_json::from_value(json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
    ]}))
    .expect("a pre-tokenizer")
}

/// The vocabulary of an oracle, by way of its `tokenizer.json`.
pub(crate) fn vocabulary(oracle: &Tokenizer) -> Vocabulary {
    let json = oracle.to_string(false).expect("JSON");
    Vocabulary::from_tokenizer_json(json.as_bytes()).expect("byte-level BPE")
}

/// Random text, the same for the same seed (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A string of up to `most` pieces, each of a kind that tokenizers stumble over.
    pub(crate) fn text(&mut self, most: usize) -> String {
        let mut text = String::new();
        for _ in 0..self.below(most + 1) {
            self.piece(&mut text);
        }
        text
    }

    fn piece(&mut self, text: &mut String) {
        const WORDS: [&str; 44] = [
            " ",
            "  ",
            "    ",
            "\n",
            "\r\n",
            "\t",
            "'s",
            "'t",
            "'re",
            "'ve",
            "'m",
            "'ll",
            "'d",
            "'",
            "'S",
            "'LL",
            "'\u{17F}",
            "//",
            "\r\n/",
            " '",
            "the",
            " the",
            "other",
            " of",
            "1",
            " 42",
            "1000",
            "<|im_start|>",
            "<|end|>",
            "<|im_start",
            "\u{A0}",
            "\u{200D}",
            "\u{FE0F}",
            "\u{301}",
            "e\u{323}\u{301}",
            "\u{1E69}",
            "\u{1100}\u{1161}\u{11A8}",
            "\u{AC00}\u{11A8}",
            "\u{1D15E}",
            "iPhone",
            " HTTPServer",
            "\u{10D0}\u{410}\u{431}",
            "\u{85}",
            "\u{3000}",
        ];
        match self.below(16) {
            0..5 => text.push_str(WORDS[self.below(WORDS.len())]),
            5 | 6 => text.push(char::from(self.below(128) as u8)),
            7 => text.extend(self.scalar(0x250)),
            8 => text.extend(self.scalar(0x3000)),
            9 => text.extend(self.scalar(0x1_0000)),
            10 => text.extend(self.scalar(0x3_2400)),
            11 => text.extend(self.scalar(0x11_0000)),
            12 => text.extend(char::from_u32(0x1F300 + self.below(0x700) as u32)),
            13 => text.extend(char::from_u32(0xD7F0 + self.below(16) as u32)),
            14 => {
                let letter = char::from(b'a' + self.below(26) as u8);
                text.extend(std::iter::repeat_n(letter, self.below(8)));
            }
            _ => {
                let run = self.scalar(0x2100).unwrap_or(' ');
                text.extend(std::iter::repeat_n(run, self.below(100)));
            }
        }
    }

    fn scalar(&mut self, bound: usize) -> Option<char> {
        char::from_u32(self.below(bound) as u32)
    }
}
