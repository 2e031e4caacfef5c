//! The section's bytes and the literal form. That it equals `minijinja`: `tests/tests/chat.rs`.

use super::*;
use proptest::prelude::*;
use std::string::String;
use std::vec;
use std::vec::Vec;

const CHATML: Literals<'static> = Literals {
    begin: "",
    default_system: "<|im_start|>system\nDefault<|im_end|>\n",
    generate: "<|im_start|>assistant\n",
    end: "",
    system: MessageFormat { prefix: "<|im_start|>system\n", suffix: "<|im_end|>\n", trim: false },
    user: MessageFormat { prefix: "<|im_start|>user\n", suffix: "<|im_end|>\n", trim: false },
    assistant: MessageFormat { prefix: "<|im_start|>assistant\n", suffix: "<|im_end|>\n", trim: false },
    system_rule: SystemRule::Message,
    regular_only: false,
};
const FOLDED: Literals<'static> = Literals {
    begin: "<s>",
    default_system: "",
    generate: "",
    end: "!",
    system: MessageFormat { prefix: "<<", suffix: ">>", trim: true },
    user: MessageFormat { prefix: "[", suffix: "]", trim: true },
    assistant: MessageFormat { prefix: "", suffix: "</s>", trim: false },
    system_rule: SystemRule::Folded,
    regular_only: true,
};

fn says(role: Role, text: &str) -> Message<'_> {
    Message { role, text }
}

fn rendered(
    literals: &Literals<'_>,
    messages: &[Message<'_>],
    generate: bool,
) -> Result<String, RenderError> {
    let mut text = String::new();
    let result = literals.render(messages, generate, &mut |segment| text.push_str(segment.text()));
    assert!(result.is_ok() || text.is_empty(), "an error must emit nothing");
    result.map(|()| text)
}

fn emitted(template: ChatTemplate<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    template.emit(&mut |piece| bytes.extend_from_slice(piece)).unwrap();
    bytes
}

#[test]
fn renders_chatml_with_and_without_a_system_message() {
    use Role::*;
    let chat = [says(User, "Hi "), says(Assistant, "Hello"), says(User, "<|im_end|>")];
    let expected = "<|im_start|>system\nDefault<|im_end|>\n<|im_start|>user\nHi <|im_end|>\n\
        <|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\n<|im_end|><|im_end|>\n\
        <|im_start|>assistant\n";
    assert_eq!(rendered(&CHATML, &chat, true).unwrap(), expected);
    let chat = [says(System, "Be brief."), says(User, "")];
    let expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<|im_end|>\n";
    assert_eq!(rendered(&CHATML, &chat, false).unwrap(), expected);
}

#[test]
fn keeps_content_apart_from_the_template() {
    let mut segments = Vec::new();
    let chat = [says(Role::System, "s"), says(Role::User, "<|im_start|>system\n")];
    CHATML
        .render(&chat, true, &mut |segment| {
            segments.push((matches!(segment, Segment::Content(_)), String::from(segment.text())));
        })
        .unwrap();
    let content: Vec<&str> = segments.iter().filter(|p| p.0).map(|p| p.1.as_str()).collect();
    assert_eq!(content, ["s", "<|im_start|>system\n"]);
}

#[test]
fn folds_the_system_message_into_the_first_user_message() {
    use Role::*;
    let chat = [says(System, " s "), says(User, " u "), says(Assistant, " a "), says(User, "v")];
    assert_eq!(rendered(&FOLDED, &chat, false).unwrap(), "<s>[<<s>>u] a </s>[v]!");
    assert_eq!(rendered(&FOLDED, &chat[1..], true).unwrap(), "<s>[u] a </s>[v]");
}

#[test]
fn refuses_what_the_template_refuses() {
    use Role::*;
    assert_eq!(rendered(&CHATML, &[], true), Err(RenderError::Empty));
    assert_eq!(rendered(&FOLDED, &[says(System, "s")], true), Err(RenderError::SystemAlone));
    let tool = [says(User, "u"), says(Role::Tool, "t")];
    assert_eq!(rendered(&CHATML, &tool, true), Err(RenderError::Tool { index: 1 }));
    let twice = [says(User, "u"), says(User, "u")];
    assert_eq!(rendered(&FOLDED, &twice, true), Err(RenderError::Turn { index: 1, role: User }));
    let late = [says(User, "u"), says(System, "s")];
    assert_eq!(rendered(&FOLDED, &late, true), Err(RenderError::Turn { index: 1, role: System }));
    let first = [says(System, "s"), says(Assistant, "a")];
    assert_eq!(rendered(&FOLDED, &first, true), Err(RenderError::Turn { index: 1, role: Assistant }));
    let refusing = Literals { system_rule: SystemRule::Refused, ..CHATML };
    assert_eq!(rendered(&refusing, &late, true), Err(RenderError::System { index: 1 }));
    let jinja = ChatTemplate::Jinja(Jinja::default());
    assert_eq!(jinja.render(&late, true, &mut |_| ()), Err(RenderError::Jinja));
}

#[test]
fn sections_come_back() {
    let jinja = Jinja { source: "{{ messages }}", bos: "<s>", eos: "" };
    let refusing = Literals { system_rule: SystemRule::Refused, ..CHATML };
    for template in [
        ChatTemplate::Literal(CHATML),
        ChatTemplate::Literal(FOLDED),
        ChatTemplate::Literal(refusing),
        ChatTemplate::Literal(Literals::default()),
        ChatTemplate::Jinja(jinja),
    ] {
        assert_eq!(ChatTemplate::parse(&emitted(template)), Ok(template));
    }
    assert_eq!(ChatTemplate::Jinja(jinja).jinja(), Some("{{ messages }}"));
    assert_eq!(ChatTemplate::Literal(CHATML).jinja(), None);
}

#[test]
fn wrong_sections_are_named() {
    let good = emitted(ChatTemplate::Literal(FOLDED));
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let chat = |what| FormatError::Chat { what };
    let reserved = FormatError::Reserved { kind: SectionKind::Chat };
    let mut long = good.clone();
    long.push(b'x');
    let mut jinja_flags = emitted(ChatTemplate::Jinja(Jinja::default()));
    jinja_flags[4] = 1;
    let cases: [(&[u8], FormatError); 11] = [
        (b"", chat("the section is shorter than its head of 8 bytes")),
        (&good[..7], chat("the section is shorter than its head of 8 bytes")),
        (&good[..20], chat("a text ends behind the end of the section")),
        (&[1, 0, 0, 0, 0, 0, 0, 0], chat("the section is shorter than its table of lengths")),
        (&changed(0, 9), chat("unknown form, expected 1 (literal) or 2 (Jinja)")),
        (&changed(4, 0x70), reserved),
        (&changed(4, 0x38), chat("system messages are both folded and refused")),
        (&changed(4, 0x10), chat("system messages are folded, but irregular conversations allowed")),
        (&long, chat("bytes are left behind the last text")),
        (&changed(48, 0xff), FormatError::NotUtf8 { kind: SectionKind::Chat, at: 48 }),
        (&jinja_flags, reserved),
    ];
    for (bytes, expected) in cases {
        assert_eq!(ChatTemplate::parse(bytes), Err(expected));
    }
    // A length that would reach behind the end, and one that overflows on 32 bits.
    for byte in [4, 0xff] {
        let mut bytes = good.clone();
        bytes[HEAD..HEAD + 4].fill(byte);
        assert_eq!(ChatTemplate::parse(&bytes), Err(chat("a text ends behind the end of the section")));
    }
}

#[test]
fn a_text_that_splits_a_character_is_refused() {
    // Two texts that are UTF-8 together only.
    let mut bytes = emitted(ChatTemplate::Jinja(Jinja { source: "\u{fc}", bos: "", eos: "" }));
    bytes[HEAD] = 1;
    bytes[HEAD + 4] = 1;
    let expected = FormatError::NotUtf8 { kind: SectionKind::Chat, at: 20 };
    assert_eq!(ChatTemplate::parse(&bytes), Err(expected));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// Any bytes, and good sections with bytes changed: an error or a template that comes back, no panic.
    #[test]
    fn any_bytes_are_an_error_or_a_template(
        noise in proptest::collection::vec(any::<u8>(), 0..64),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        form in 0..3,
    ) {
        let mut bytes = match form {
            0 => noise,
            1 => emitted(ChatTemplate::Literal(FOLDED)),
            _ => emitted(ChatTemplate::Jinja(Jinja { source: "{{ x }}", bos: "b", eos: "e" })),
        };
        if !bytes.is_empty() {
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        if let Ok(template) = ChatTemplate::parse(&bytes) {
            prop_assert_eq!(&emitted(template), &bytes);
            let chat = [says(Role::System, "s"), says(Role::User, "u")];
            let _ = template.render(&chat, true, &mut |_| ());
        }
    }

    #[test]
    fn random_literals_come_back(texts in proptest::array::uniform10(".{0,8}"), flags in 0..KNOWN_FLAGS) {
        let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
        let parts = Parts::<LITERAL_PARTS> { texts: borrowed.try_into().unwrap() };
        let mut bytes = vec![];
        parts.emit(FORM_LITERAL, flags, &mut |piece| bytes.extend_from_slice(piece)).unwrap();
        if let Ok(template) = ChatTemplate::parse(&bytes) {
            prop_assert_eq!(&emitted(template), &bytes);
        }
    }
}
