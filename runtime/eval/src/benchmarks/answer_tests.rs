//! Against Python's `re`: see `tests/golden/answers.py`.

use super::{flexible, matches, normalized, strict};

#[test]
fn extraction_and_normalization_are_the_harness_s() {
    let golden = include_str!("../../../../tests/golden/answers.json");
    let cases: Vec<[String; 4]> = serde_json::from_str(golden).unwrap();
    assert_eq!(cases.len(), 1500);
    for [text, by_strict, by_flexible, plain] in &cases {
        assert_eq!(strict(text), by_strict, "{text:?}");
        assert_eq!(flexible(text), by_flexible, "{text:?}");
        assert_eq!(&normalized(text), plain, "{text:?}");
    }
}

#[test]
fn an_answer_is_right_where_the_numbers_are_the_same() {
    let answer = "He pays 3 * $1,000 = <<3*1000=3000>>3,000 dollars.\n#### 3,000";
    for (text, by_strict, by_flexible) in [
        (" So it is 3000.\n#### 3000", true, true),
        (" #### $3000", false, true),
        (" He pays $3,000.", false, true),
        (" #### 3000. Then #### 5", true, false),
        (" I do not know.", false, false),
        ("", false, false),
    ] {
        assert_eq!(matches(strict(text), answer), by_strict, "{text:?}");
        assert_eq!(matches(flexible(text), answer), by_flexible, "{text:?}");
    }
    assert!(!matches(strict("none"), "no number"), "[invalid] is no answer");
}
