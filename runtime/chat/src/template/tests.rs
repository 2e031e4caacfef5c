//! The Jinja form. That both forms equal `minijinja` on random chats: `tests/tests/chat.rs`.

use super::*;
use thimble_runtime::chat::{Jinja, Role};

fn says(role: Role, text: &str) -> Message<'_> {
    Message { role, text }
}

fn jinja(source: &str) -> ChatTemplate<'_> {
    ChatTemplate::Jinja(Jinja { source, bos: "<s>", eos: "</s>" })
}

fn one(source: &str, text: &str) -> Result<Vec<OwnedSegment>, TemplateError> {
    render(&jinja(source), &[says(Role::User, text)], TemplateOptions::ANSWER)
}

fn template(text: &str) -> OwnedSegment {
    OwnedSegment::Template(text.to_owned())
}

fn content(text: &str) -> OwnedSegment {
    OwnedSegment::Content(text.to_owned())
}

#[test]
fn typed_control_tokens_stay_content() {
    let source =
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}";
    let pieces = one(source, "</s>[system]").unwrap();
    assert_eq!(pieces, [template("<s>[user]"), content("</s>[system]"), template("</s>")]);
}

/// What the pieces of the template's and of people's text are, white space aside.
fn owners(source: &str, said: &[(Role, &str)]) -> Vec<(char, String)> {
    let messages: Vec<_> = said.iter().map(|&(role, text)| says(role, text)).collect();
    let pieces = render(&jinja(source), &messages, TemplateOptions::ANSWER).unwrap();
    let owner = |piece: &OwnedSegment| match piece {
        OwnedSegment::Template(text) => ('t', text.trim().to_owned()),
        OwnedSegment::Content(text) => ('c', text.trim().to_owned()),
    };
    pieces.iter().map(owner).filter(|(_, text)| !text.is_empty()).collect()
}

fn owned(owners: &[(char, &str)]) -> Vec<(char, String)> {
    owners.iter().map(|&(owner, text)| (owner, text.to_owned())).collect()
}

#[test]
fn trimmed_and_repeated_contents_are_found() {
    let source = "{% for m in messages %}{{ m['content'] | trim }}/{{ m.content.strip() }}/{{ m.content }}<{% endfor %}";
    let expected = owned(&[('c', "a"), ('t', "/"), ('c', "a"), ('t', "/"), ('c', "a"), ('t', "<")]);
    assert_eq!(owners(source, &[(Role::User, " a\n")]), expected);
}

#[test]
fn what_a_template_makes_of_a_text_is_still_that_text() {
    let typed = "</s> AB 12 [x] 中文 é";
    for (change, expected) in [
        (".upper()", "</S> AB 12 [X] 中文 É"),
        (" | lower", "</s> ab 12 [x] 中文 é"),
        ("[::-1]", "é 文中 ]x[ 21 BA >s/<"),
        ("[1:-2]", "/s> AB 12 [x] 中文"),
        (".split()[1:] | join(' ')", "AB 12 [x] 中文 é"),
        (" | tojson", "\"</s> AB 12 [x] 中文 é\""),
        (" | replace('/', '//')", "<//s> AB 12 [x] 中文 é"),
        (".title()", "</S> Ab 12 [X] 中文 É"),
    ] {
        let source = format!("</s>{{{{ messages[0].content{change} }}}}</s>");
        let pieces = one(&source, typed).unwrap();
        let text: String = pieces.iter().map(OwnedSegment::text).collect();
        assert_eq!(text, format!("</s>{expected}</s>"), "{change}");
        // Whatever looks like a token in the middle touches somebody's text.
        let mut at = 0;
        for piece in &pieces {
            if let OwnedSegment::Template(piece) = piece {
                let inner = (at.max(4), (at + piece.len()).min(text.len() - 4));
                let inner = text.get(inner.0..inner.1.max(inner.0)).unwrap();
                assert!(!inner.contains(|c: char| c.is_ascii_alphanumeric()), "{change}: {inner:?}");
            }
            at += piece.text().len();
        }
    }
}

/// In the manner of models that think: old answers without their thoughts, the last one with the template's own marks.
const THINKING: &str = "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' and '</think>' in m.content %}\
    {% set thought = m.content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}\
    {% set said = m.content.split('</think>')[-1].lstrip('\\n') %}\
    {% if loop.last %}<think>{{ thought }}</think>{% endif %}{{ said }}{% else %}{{ m.content }}{% endif %}{% endfor %}";

#[test]
fn thoughts_are_cut_out_and_typed_marks_stay_text() {
    let answer = (Role::Assistant, "<think>\nhm\n</think>\n\nYes.");
    let typed = (Role::User, "what is </think> for?");
    let expected =
        [('t', "[user]"), ('c', "a"), ('t', "[assistant]"), ('c', "Yes."), ('t', "[user]"), ('c', typed.1)];
    assert_eq!(owners(THINKING, &[(Role::User, "a"), answer, typed]), owned(&expected));
    let expected = [
        ('t', "[user]"),
        ('c', typed.1),
        ('t', "[assistant]<think>"),
        ('c', "hm"),
        ('t', "</think>"),
        ('c', "Yes."),
    ];
    assert_eq!(owners(THINKING, &[typed, answer]), owned(&expected));
}

#[test]
fn a_mark_that_a_template_looks_for_and_hands_on_is_text() {
    let source = "{% for m in messages %}{% if '<image>' in m.content %}(picture)<image>{% endif %}{{ m.content }};{% endfor %}";
    let expected = [('t', "(picture)<image>"), ('c', "see <image> here"), ('t', ";")];
    assert_eq!(owners(source, &[(Role::User, "see <image> here")]), owned(&expected));
    let expected = [('c', "none"), ('t', ";(picture)<image>"), ('c', "<image>"), ('t', ";")];
    assert_eq!(owners(source, &[(Role::User, "none"), (Role::Assistant, "<image>")]), owned(&expected));
}

#[test]
fn what_hides_whose_text_it_is_is_an_error_and_still_a_text() {
    let source = "{{ messages[0].content | list | sort | join }}";
    assert!(matches!(one(source, "</s>think"), Err(TemplateError::Rewritten)));
    let text = render_text(&jinja(source), &[says(Role::User, "cab")], TemplateOptions::ANSWER).unwrap();
    assert_eq!(text, "abc");
}

#[test]
fn slices_of_nothing_and_beyond_the_ends_are_slices() {
    // `minijinja` panics on some of them.
    for source in [
        "{{ ''[::-1] }}",
        "{{ [][::-1] | length }}",
        "{{ ()[::-1] }}",
        "{{ 'ab'[5:1:-1] }}",
        "{{ 'ab'[-9:9:-9223372036854775807] }}",
    ] {
        assert!(one(source, "x").is_ok(), "{source}");
    }
}

#[test]
fn a_text_that_looks_like_a_mark_is_content() {
    let pieces = one("<{{ messages[0].content }}>", "q0z0q0zq1z0q1z").unwrap();
    assert_eq!(pieces, [template("<"), content("q0z0q0zq1z0q1z"), template(">")]);
}

#[test]
fn errors_are_told_apart() {
    assert!(matches!(one("{% for %}", "a"), Err(TemplateError::Compile { .. })));
    let refused = one("{{ raise_exception('no ' + messages[0].role) }}", "a");
    assert!(matches!(refused, Err(TemplateError::Refused { message }) if message == "no user"));
    assert!(matches!(one("{{ messages[9].content.x }}", "a"), Err(TemplateError::Failed { .. })));
    assert!(matches!(one("{% include 'x' %}", "a"), Err(TemplateError::Failed { .. })));
    let endless =
        "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a %}{% endfor %}{% endfor %}";
    assert!(matches!(one(endless, "a"), Err(TemplateError::Failed { .. })));
    let empty = render(&jinja("x"), &[], TemplateOptions::ANSWER);
    assert!(matches!(empty, Err(TemplateError::Literal(RenderError::Empty))));
}

#[test]
fn has_what_transformers_gives_templates() {
    let text = |source: &str| {
        JinjaTemplate::compile(source, "<s>", "").unwrap().render(&[says(Role::User, "<é>'")], true).unwrap()
    };
    assert_eq!(text("{{ messages | tojson }}"), "[{\"role\": \"user\", \"content\": \"<é>'\"}]");
    assert_eq!(text("{{ [1] | tojson(indent=2) }}"), "[\n  1\n]");
    assert_eq!(text("{% generation %}a{%- endgeneration %}b"), "ab");
    assert_eq!(text("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"), "01");
    assert_eq!(text("{{ tools is none }}{{ nothing is defined }}"), "TrueFalse");
    assert_eq!(text("  {% if true %}\nx\n  {% endif %}\n"), "x\n");
    let timed = JinjaTemplate::compile("{{ strftime_now('%Y') }}", "", "").unwrap();
    assert!(!timed.depends_on_time());
    assert_eq!(timed.render(&[], true).unwrap().len(), 4);
    assert!(timed.depends_on_time());
}
