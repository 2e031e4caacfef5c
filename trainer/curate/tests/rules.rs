//! The cheap rules: every reason at its threshold, and texts that break naive programs.
#![allow(clippy::unwrap_used, reason = "tests")]

use thimble_curate::rules::{BlockedWords, Rules};

/// A text that every set of rules keeps.
fn prose() -> String {
    let sentences = [
        "The tide comes in because the moon pulls at the sea, and it goes out again six hours later.",
        "Fishermen have known that for a very long time, and they plan their days with it.",
        "Whoever walks out to the islands has to be back before the water rises in the channels!",
        "Do the gulls know the hour better than people with clocks?",
        "Nobody on this coast would bet against them, and the oldest pilots listen to their calls.",
        "When the wind turns to the north, the harbour fills with boats that wait for calmer water.",
    ];
    sentences.join("\n")
}

fn reason(rules: &str, text: &str) -> Option<String> {
    Rules::named(rules).unwrap().apply(text).err().map(|removal| removal.reason)
}

#[test]
fn prose_is_kept_by_all() {
    for name in Rules::NAMES {
        assert_eq!(Rules::named(name).unwrap().apply(&prose()), Ok(None), "{name}");
    }
    assert!(Rules::named("gopher").is_none());
}

#[test]
fn every_reason_is_found() {
    let prose = prose();
    let flat = prose.replace('\n', " ");
    let table: Vec<(&str, &str, String)> = vec![
        ("gopher-quality", "gopher_short_doc", "Too short a text of the sea.".to_owned()),
        ("gopher-quality", "gopher_long_doc", "the and word ".repeat(34_000)),
        ("gopher-quality", "gopher_below_avg_threshold", "to be of it ".repeat(20)),
        ("gopher-quality", "gopher_above_avg_threshold", "incomprehensibility the ".repeat(40)),
        ("gopher-quality", "gopher_too_many_hashes", format!("{flat} {}", "#".repeat(20))),
        ("gopher-quality", "gopher_too_many_ellipsis", format!("{flat} {}", "… ".repeat(20))),
        (
            "gopher-quality",
            "gopher_too_many_bullets",
            prose.lines().map(|line| format!("  - {line}\n")).collect(),
        ),
        ("gopher-quality", "gopher_too_many_end_ellipsis", prose.replace(".\n", "…\n").replace('?', "...")),
        ("gopher-quality", "gopher_below_alpha_threshold", format!("{flat} {}", "1234 ".repeat(60))),
        (
            "gopher-quality",
            "gopher_enough_stop_words",
            "Water rises slowly around distant islands. ".repeat(10),
        ),
        ("gopher-repetition", "dup_para_frac", format!("{prose}\n\na.\n\na.\n\na.\n\na.")),
        ("gopher-repetition", "dup_para_char_frac", format!("{prose}\n\na\n\nb\n\n{prose}")),
        ("gopher-repetition", "dup_line_frac", format!("{prose}{}", "\nx".repeat(6))),
        ("gopher-repetition", "dup_line_char_frac", format!("{flat}\na\nb\nc\n{flat}")),
        ("gopher-repetition", "top_2_gram", format!("{flat} {}", "pale moon, ".repeat(20))),
        ("gopher-repetition", "duplicated_5_n_grams", format!("{flat} {flat}")),
        ("c4", "lorem_ipsum", format!("{prose}\nHere is Lorem Ipsum for you.")),
        ("c4", "curly_bracket", format!("{prose}\nif (a) {{ return b; }}.")),
        (
            "c4",
            "too_few_sentences",
            "One is here.\nTwo is here.\nno end here\nThree is here.\nFour is here.".to_owned(),
        ),
        ("fineweb", "line_punct_ratio", prose.replace(['.', '!', '?'], "")),
        ("fineweb", "short_line_ratio", format!("{prose}{}", "\nshort line.".repeat(13))),
        ("fineweb", "char_dup_ratio", format!("{prose}\n{}", prose.lines().next().unwrap())),
        ("fineweb", "list_ratio", format!("{prose}{}", "\n".repeat(60))),
        ("fineweb", "empty", "\n \n".to_owned()),
    ];
    for (rules, expected, text) in table {
        assert_eq!(reason(rules, &text).as_deref(), Some(expected), "{rules}: {text:.60}");
    }
    for name in Rules::NAMES {
        assert_eq!(reason(name, "").as_deref(), Some("empty"), "{name}");
    }
}

#[test]
fn c4_drops_lines_and_citations() {
    let text = format!(
        "{}\nMenu Home About\nPlease enable JavaScript now.\nWe have a cookie policy here.\nToo short.\nAn ellipsis ends this line...\n\
         {} is a long word.\nCited twice[12][edit] and[citation needed] once[no].",
        prose(),
        "x".repeat(1001)
    );
    let left = Rules::named("c4").unwrap().apply(&text).unwrap().unwrap();
    assert_eq!(left, format!("{}\nCited twice and once[no].", prose()));
}

#[test]
fn blocked_words_match_whole_words_in_any_case() {
    let rules = Rules::BlockedWords(BlockedWords::parse("Kraken\n\nsea monster\n"));
    let table = [
        ("The KRAKEN rises.", false),
        ("kraken", false),
        ("a sea monster!", false),
        ("krakens rise", true),
        ("sea  monster", true),
        ("_kraken", true),
        ("", true),
    ];
    for (text, keep) in table {
        let found = rules.apply(text);
        assert_eq!(found.is_ok() || text.is_empty(), keep, "{text:?}");
    }
}

#[test]
fn hostile_texts_are_decided() {
    let texts = [
        "\u{0}".repeat(1000),
        "\n".repeat(1000),
        "[".repeat(10_000),
        "....".repeat(5000),
        "'s".repeat(5000),
        "a-".repeat(50_000),
        "\u{1F600}".repeat(1000),
        "e\u{301}".repeat(1000),
        "\u{2028}\u{85}\r\n\r".repeat(100),
        "中".repeat(100_000),
        "n't ".repeat(1000),
    ];
    let mut removed = 0;
    for text in &texts {
        for name in Rules::NAMES {
            removed += usize::from(Rules::named(name).unwrap().apply(text).is_err());
        }
    }
    // Nothing of it is prose.
    assert!(removed >= 2 * texts.len(), "{removed}");
}
