//! Which form a template gets, and errors. Equality on random chats: `tests/tests/chat.rs`.

use super::*;
use thimble_runtime::chat::{Literals, SystemRule};

fn literals(template: &str, bos: &str, eos: &str, look: impl FnOnce(&Literals<'_>)) {
    let bytes = derive(template, bos, eos).unwrap();
    match ChatTemplate::parse(&bytes).unwrap() {
        ChatTemplate::Literal(literals) => look(&literals),
        ChatTemplate::Jinja(_) => panic!("not reduced: {template}"),
    }
}

fn is_jinja(template: &str) -> bool {
    let bytes = derive(template, "<s>", "</s>").unwrap();
    let parsed = ChatTemplate::parse(&bytes).unwrap();
    assert!(parsed.jinja().is_none_or(|source| source == template));
    parsed.jinja().is_some()
}

#[test]
fn a_template_that_lists_tools_stays_jinja() {
    let chat = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}";
    assert!(!is_jinja(chat));
    assert!(is_jinja(&format!("{{% if tools %}}{{{{ tools | tojson }}}}\n{{% endif %}}{chat}")));
    assert!(is_jinja(&format!("{{% for tool in xml_tools %}}{{{{ tool | string }}}}\n{{% endfor %}}{chat}")));
    // Only the name of the variable: nothing is lost.
    assert!(!is_jinja(&format!("{{% if tools %}}{{% endif %}}{chat}")));
}

#[test]
fn smollm2_is_cut_where_a_person_would_cut_it() {
    literals(
        include_str!("../../../tests/golden/templates/smollm2.jinja"),
        "<|im_start|>",
        "<|im_end|>",
        |found| {
            assert_eq!(found.begin, "");
            let default = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging \
            Face<|im_end|>\n";
            assert_eq!(found.default_system, default);
            assert_eq!([found.system.prefix, found.system.suffix], ["<|im_start|>system\n", "<|im_end|>\n"]);
            assert_eq!([found.user.prefix, found.user.suffix], ["<|im_start|>user\n", "<|im_end|>\n"]);
            assert_eq!(found.assistant.prefix, "<|im_start|>assistant\n");
            assert_eq!(found.assistant.suffix, "<|im_end|>\n");
            assert_eq!([found.generate, found.end], ["<|im_start|>assistant\n", ""]);
            assert_eq!(found.system_rule, SystemRule::Message);
            assert!(!found.regular_only);
        },
    );
}

#[test]
fn an_end_token_behind_everything_does_not_cut_tokens() {
    literals(include_str!("../../../tests/golden/templates/phi3.jinja"), "<s>", "<|endoftext|>", |found| {
        assert_eq!([found.user.prefix, found.user.suffix], ["<|user|>\n", "<|end|>\n"]);
        assert_eq!([found.generate, found.end], ["<|assistant|>\n", "<|endoftext|>"]);
        assert_eq!(found.begin, "");
    });
}

#[test]
fn folded_and_refused_system_messages_are_seen() {
    literals(include_str!("../../../tests/golden/templates/gemma.jinja"), "<bos>", "<eos>", |found| {
        assert_eq!(found.system_rule, SystemRule::Refused);
        assert!(found.regular_only && found.user.trim && found.assistant.trim);
        assert_eq!(found.begin, "<bos>");
    });
    literals(include_str!("../../../tests/golden/templates/gemma_folded.jinja"), "<bos>", "<eos>", |found| {
        assert_eq!(found.system_rule, SystemRule::Folded);
        assert_eq!([found.system.prefix, found.system.suffix], ["", "\n\n"]);
        assert!(!found.system.trim && found.user.trim);
    });
}

#[test]
fn what_looks_into_messages_stays_jinja() {
    for template in [
        "{% for m in messages %}{% if 'secret word' in m.content %}!{% endif %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content | length }}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
        "{% for m in messages %}{{ loop.index }}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m | tojson }}{% endfor %}",
        "{% for m in messages[-2:] %}{{ m.content }}{% endfor %}",
        "{{ strftime_now('%d') }}{% for m in messages %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{% if m.content %}{{ m.role + m.content }}{% endif %}{% endfor %}",
        "fixed",
    ] {
        assert!(is_jinja(template), "{template}");
    }
    assert!(!is_jinja("{% for m in messages %}{{ m.role + m.content.strip() }}.{% endfor %}"));
    assert!(!is_jinja("{% for m in messages %}{{ m.content }}{% endfor %}"));
}

#[test]
fn unusable_templates_are_errors() {
    let compile = derive("{% for m in %}", "", "").unwrap_err();
    assert!(matches!(compile, ChatTemplateError::Compile(_)));
    assert!(compile.to_string().starts_with("the chat template does not compile: "), "{compile}");
    let unusable = derive("{{ messages[0].content.no_such_method() }}", "", "").unwrap_err();
    assert!(matches!(unusable, ChatTemplateError::Unusable(_)), "{unusable}");
}

#[test]
fn literals_become_jinja_that_becomes_them_again() {
    let templates = [
        include_str!("../../../tests/golden/templates/smollm2.jinja"),
        include_str!("../../../tests/golden/templates/phi3.jinja"),
        include_str!("../../../tests/golden/templates/gemma.jinja"),
        include_str!("../../../tests/golden/templates/gemma_folded.jinja"),
        include_str!("../../../tests/golden/templates/chatml.jinja"),
        include_str!("../../../tests/golden/templates/llama3.jinja"),
        include_str!("../../../tests/golden/templates/zephyr.jinja"),
        "{% for m in messages %}{{ m.role + m.content.strip() }}.{% endfor %}",
        r"{{ bos_token }}{% for m in messages %}{{ '\\\r\'' + m.role + m.content + eos_token }}{% endfor %}",
    ];
    for template in templates {
        let section = derive(template, "<s>", "</s>").unwrap();
        let parsed = ChatTemplate::parse(&section).unwrap();
        assert!(matches!(parsed, ChatTemplate::Literal(_)), "{template}");
        let written = to_jinja(&parsed);
        // `derive` compares the renderings and refusals of its test conversations.
        assert_eq!(derive(&written, "<s>", "</s>").unwrap(), section, "{written}");
    }
}

#[test]
fn jinja_stays_what_it_is() {
    let template = "{% for m in messages %}{{ m.content | upper }}{% endfor %}";
    let section = derive(template, "<s>", "</s>").unwrap();
    assert_eq!(to_jinja(&ChatTemplate::parse(&section).unwrap()), template);
}

#[test]
fn what_a_template_cannot_do_later_is_said_at_once() {
    let said = |template: &str| {
        let section = derive(template, "<s>", "</s>").unwrap();
        find_fault(&ChatTemplate::parse(&section).unwrap())
    };
    let hides = said("{% for m in messages %}{{ m.content | list | sort | join }}{% endfor %}");
    assert!(hides.as_ref().is_some_and(|said| said.contains("will be refused")), "{hides:?}");
    let fails = said(
        "{% for m in messages %}{{ m.content }}{{ messages[loop.index0 - 1].nope.x if loop.index > 2 }}{% endfor %}",
    );
    assert!(
        fails.as_ref().is_some_and(|said| said.contains("fails on a conversation of 3 messages (")),
        "{fails:?}"
    );
    let thinks = "{% for m in messages %}{{ m.content.split('</think>')[-1] | trim }}{{ m.content | tojson }}{% endfor %}";
    assert_eq!(said(thinks), None);
    assert_eq!(said(include_str!("../../../tests/golden/templates/thinking.jinja")), None);
}

#[test]
fn line_ends_of_any_system_are_the_same_template() {
    let templates = [
        include_str!("../../../tests/golden/templates/chatml.jinja"),
        include_str!("../../../tests/golden/templates/thinking.jinja"),
        "{% for m in messages %}\n<{{ m.role }}>\n{{ m.content }}\n{% endfor %}\n",
    ];
    for template in templates {
        let messages = [Role::User, Role::Assistant, Role::User];
        let messages = messages.map(|role| Message { role, text: "a\r\nb" });
        let rendered = |template: &str| {
            let section = derive(template, "<s>", "</s>").unwrap();
            let pieces = thimble_chat::template::render(
                &ChatTemplate::parse(&section).unwrap(),
                &messages,
                TemplateOptions::ANSWER,
            );
            pieces.unwrap()
        };
        let expected = rendered(template);
        for end in ["\r\n", "\r"] {
            assert_eq!(rendered(&template.replace('\n', end)), expected, "{template}");
        }
    }
}
