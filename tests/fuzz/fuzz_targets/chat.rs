//! Any chat template on any conversation: a text or an error. The pieces are the text, and what nobody typed is in no piece
//! of people's.

#![no_main]

use libfuzzer_sys::fuzz_target;
use thimble_chat::template::{OwnedSegment, TemplateError, TemplateOptions, render, render_text};
use thimble_runtime::chat::{ChatTemplate, Jinja, Message, Role};

#[derive(Debug, arbitrary::Arbitrary)]
struct Input<'a> {
    source: &'a str,
    /// Parts of real templates, put behind the source.
    parts: Vec<u8>,
    messages: Vec<(u8, &'a str)>,
    generate: bool,
    thinking: Option<bool>,
}

const PARTS: [&str; 16] = [
    "{% for m in messages %}",
    "{% endfor %}",
    "{{ m.content }}",
    "{{ m['content'][::-1] }}",
    "{{ m.content.split('</think>')[-1] | trim }}",
    "{% if '</think>' in m.content %}",
    "{% else %}",
    "{% endif %}",
    "{{ m | tojson(indent=2) }}",
    "{{ '%5s|%-3r' % (m.role, m.content) }}",
    "<|im_start|>",
    "{% set ns = namespace(x=m.content) %}{{ ns.x | upper }}",
    "{{ m.content[1:-1].partition(' ') | list }}",
    "{% generation %}x{% endgeneration %}",
    "{{ messages[loop.index:] | map(attribute='content') | join(',') }}",
    "{{ m.content.center(m.content | length + 3, '*') }}",
];

fuzz_target!(|input: Input<'_>| {
    let mut source = input.source.to_owned();
    source.extend(input.parts.iter().take(40).map(|&part| PARTS[usize::from(part) % PARTS.len()]));
    let template = ChatTemplate::Jinja(Jinja { source: &source, bos: "<s>", eos: "</s>" });
    let roles = [Role::System, Role::User, Role::Assistant];
    let messages: Vec<Message<'_>> = input
        .messages
        .iter()
        .take(8)
        .map(|&(role, text)| Message { role: roles[usize::from(role) % 3], text })
        .collect();
    // `strftime_now` may tell two times; everything else is a function of its arguments.
    if messages.is_empty() || source.contains("strftime_now") || source.contains("random") {
        return;
    }
    let options = TemplateOptions { generate: input.generate, thinking: input.thinking };
    let text = render_text(&template, &messages, options);
    match render(&template, &messages, options) {
        Ok(pieces) => {
            let joined: String = pieces.iter().map(OwnedSegment::text).collect();
            assert_eq!(text.expect("the same conversation"), joined);
        }
        Err(TemplateError::Rewritten) => assert!(text.is_ok()),
        Err(_) => assert!(text.is_err()),
    }
});
