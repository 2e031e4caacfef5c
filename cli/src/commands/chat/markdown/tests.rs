use super::{Look, Markdown};

/// Shows the text; asserts that the pieces it arrives in do not matter.
#[track_caller]
fn shown(look: Look, width: usize, text: &str) -> String {
    let show = |pieces: &[&str]| {
        let mut markdown = Markdown::new(look, Some(width));
        let out: String = pieces.iter().map(|piece| markdown.push(piece, Some(width))).collect();
        out + &markdown.finish()
    };
    let whole = show(&[text]);
    for (at, _) in text.char_indices() {
        assert_eq!(show(&[&text[..at], &text[at..]]), whole, "cut at {at}");
    }
    let characters: Vec<char> = text.chars().collect();
    for length in 1..8 {
        let pieces: Vec<String> = characters.chunks(length).map(|piece| piece.iter().collect()).collect();
        assert_eq!(
            show(&pieces.iter().map(|piece| &**piece).collect::<Vec<_>>()),
            whole,
            "pieces of {length}"
        );
    }
    whole
}

/// With short names for the sequences.
#[track_caller]
fn coloured(text: &str) -> String {
    let names = [
        ("\x1b[0m", "</>"),
        ("\x1b[0;1m", "<b>"),
        ("\x1b[0;3m", "<i>"),
        ("\x1b[0;1;3m", "<bi>"),
        ("\x1b[0;4m", "<u>"),
        ("\x1b[0;1;4m", "<h>"),
        ("\x1b[0;36m", "<c>"),
        ("\x1b[0;1;36m", "<bc>"),
        ("\x1b[0;2m", "<d>"),
    ];
    let shown = shown(Look::Colours, 60, text);
    names.iter().fold(shown, |shown, (sequence, name)| shown.replace(sequence, name))
}

#[test]
fn inline_elements_become_styles() {
    let cases = [
        ("a **b** c", "a <b>b</> c"),
        ("*i* and _i i_", "<i>i</> and <i>i i</>"),
        ("***both***", "<bi>both</>"),
        ("**b *bi* b**", "<b>b <bi>bi<b> b</>"),
        ("*a **b***", "<i>a <bi>b</>"),
        ("run `ls *` now", "run <c>ls *</> now"),
        ("**the `x` flag**", "<b>the <bc>x<b> flag</>"),
        ("[a page](http://x.y) there", "<u>a page</> (http://x.y) there"),
        ("[http://x](http://x)", "<u>http://x</>"),
        ("2 * 3 * 4, a_b_c, \\*x\\*, \\(y\\)", "2 * 3 * 4, a_b_c, *x*, \\(y\\)"),
        ("*never ends", "*never ends"),
        ("*no\nnot here*", "*no\nnot here*"),
        ("`a", "`a"),
        ("a\n", "a\n"),
        ("", ""),
    ];
    for (text, expected) in cases {
        assert_eq!(coloured(text), expected, "{text}");
    }
}

#[test]
fn lines_begin_with_blocks() {
    let cases = [
        ("# One\n### Three *i*\n#no", "<h>One</>\n<b>Three <bi>i</>\n#no"),
        ("- a\n* **b**\n  + c\n-no", "• a\n• <b>b</>\n  • c\n-no"),
        ("1. a\n10) b\n1.5 c", "1. a\n10) b\n1.5 c"),
        ("- [ ] open", "• [ ] open"),
        ("> q **b**\n>> qq\ntext", "<d>│ </>q <b>b</>\n<d>│ │ </>qq\ntext"),
        ("> - a", "<d>│ </>• a"),
        ("---\n* * *\n___\ntext", "<d>────────</>\n<d>────────</>\n<d>────────</>\ntext"),
        ("- - a\n--\n- ", "• - a\n--\n• "),
        ("| a | *b* |\n|---|---|\n", "| a | *b* |\n|---|---|\n"),
        ("- a\n\n      b *i*\n", "• a\n\n      b <i>i</>\n"),
        ("x\n\n    let a = *b*;\ny", "x\n\n<c>    let a = *b*;</>\ny"),
    ];
    for (text, expected) in cases {
        assert_eq!(coloured(text), expected, "{text}");
    }
}

#[test]
fn code_blocks_keep_every_character() {
    let code = "fn main() {\n    let a = *b * c;\n\n\t// # **not** bold - \\* ~~~\n- x\n> y\n}";
    let text = format!("so:\n```rust\n{code}\n```\n**b**");
    let shown = shown(Look::Colours, 20, &text);
    let plain = without_sequences(&shown);
    assert!(plain.contains(&format!("```rust\n{code}\n```\n")), "{shown:?}");
    assert!(plain.ends_with("\nb"), "{shown:?}");
    // A longer fence, tildes, backticks in a line, one in a quote that ends, and one that never does.
    assert_eq!(coloured("````\n```\n````\n*i*"), "<d>````</>\n<c>```</>\n<d>````</>\n<i>i</>");
    assert_eq!(coloured("~~~\n```\n~~~ \nx"), "<d>~~~</>\n<c>```</>\n<d>~~~ </>\nx");
    assert_eq!(coloured("```a``` *i*"), "<c>a</> <i>i</>");
    assert_eq!(coloured("> ```\n> a\n*i*"), "<d>│ ```</>\n<d>│ <c>a</>\n<i>i</>");
    assert_eq!(coloured("```\n*a*"), "<d>```</>\n<c>*a*</>");
}

/// The text without its sequences.
fn without_sequences(shown: &str) -> String {
    let mut pieces = shown.split('\x1b');
    let first = pieces.next().unwrap_or_default().to_string();
    pieces.fold(first, |text, piece| text + piece.split_once('m').map_or("", |(_, rest)| rest))
}

#[test]
fn without_colours_there_are_attributes_only() {
    let shown = |text| shown(Look::Attributes, 60, text);
    assert_eq!(shown("`a` **b**\n```\nc\n```\n> q"), "`a` \x1b[0;1mb\x1b[0m\n```\nc\n```\n│ q");
}

#[test]
fn plain_text_changes_in_its_line_breaks_alone() {
    let text = "# a **b** `c` [d](e)\n- one two three four five\n> six seven eight nine ten\n```\nlong line of code \
                that stays whole\n```\n| a long | row of a | table too |\n";
    let shown = shown(Look::Plain, 12, text);
    assert_eq!(shown.replace('\n', " "), text.replace('\n', " "));
    assert!(shown.contains("\nlong line of code that stays whole\n"), "{shown}");
    assert!(shown.contains("\n| a long | row of a | table too |\n"), "{shown}");
    assert!(shown.contains("- one two\nthree four"), "{shown}");
}

#[test]
fn items_and_quotes_hang() {
    let shown = |text| shown(Look::Attributes, 12, text);
    assert_eq!(shown("- one two three"), "• one two\n  three");
    assert_eq!(shown("10. one two three"), "10. one two\n    three");
    assert_eq!(shown("> one two three"), "│ one two\n│ three");
    assert_eq!(shown("- 日本語日本語日本"), "• 日本語日本\n  語日本");
    assert_eq!(shown("- **one two three**"), "• \x1b[0;1mone two\x1b[0m\n  \x1b[0;1mthree\x1b[0m");
}

#[test]
fn random_text_shows_the_same_in_any_pieces() {
    let tokens = [
        "*", "**", "_", "`", "```", "\n", "\n\n", " ", "a", "日", "[", "](", ")", "#", "- ", "> ", "1. ",
        "|", "\\", "~~~", "    ",
    ];
    let mut state = 1u64;
    for _ in 0..400 {
        let text: String = (0..24)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                tokens[(state >> 33) as usize % tokens.len()]
            })
            .collect();
        for look in [Look::Colours, Look::Plain] {
            shown(look, 9, &text);
        }
    }
}
