//! Converts the chat section of a model file to Jinja source.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write;
use thimble_runtime::chat::{ChatTemplate, Literals, MessageFormat, SystemRule};

/// Jinja source that renders like the template: the original if the section stores it.
///
/// The source refuses what the literal form refuses (`raise_exception`), and reduces to the same literals.
pub fn to_jinja(template: &ChatTemplate<'_>) -> String {
    match template {
        ChatTemplate::Jinja(jinja) => jinja.source.to_owned(),
        ChatTemplate::Literal(literals) => of_literals(literals),
    }
}

fn of_literals(literals: &Literals<'_>) -> String {
    let mut out = String::new();
    let Literals { begin, default_system, generate, end, system, user, assistant, .. } = *literals;
    let folded = literals.system_rule == SystemRule::Folded;
    out.push_str("{% set first_is_system = messages and messages[0]['role'] == 'system' %}");
    if literals.system_rule == SystemRule::Refused {
        out.push_str(
            "{% for message in messages %}{% if message['role'] == 'system' %}\
             {{ raise_exception('System role not supported') }}{% endif %}{% endfor %}",
        );
    }
    if folded {
        out.push_str(
            "{% if first_is_system and messages | length == 1 %}\
             {{ raise_exception('A user message must follow the system message') }}{% endif %}",
        );
    }
    if literals.regular_only {
        out.push_str(
            "{% for message in messages[1:] if first_is_system %}\
             {% if message['role'] != ('user' if loop.index0 % 2 == 0 else 'assistant') %}\
             {{ raise_exception('Roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% endfor %}\
             {% for message in messages if not first_is_system %}\
             {% if message['role'] != ('user' if loop.index0 % 2 == 0 else 'assistant') %}\
             {{ raise_exception('Roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% endfor %}",
        );
    }
    put(&mut out, begin);
    if !default_system.is_empty() {
        out.push_str("{% if not first_is_system %}");
        put(&mut out, default_system);
        out.push_str("{% endif %}");
    }
    out.push_str("{% for message in messages %}");
    let mut first = true;
    if folded {
        // The first user message includes the system message.
        out.push_str("{% if message['role'] == 'system' %}{% elif message['role'] == 'user' %}");
        put(&mut out, user.prefix);
        out.push_str("{% if first_is_system and loop.index0 == 1 %}");
        around(&mut out, &system, "messages[0]['content']");
        out.push_str("{% endif %}");
        content(&mut out, user.trim, "message['content']");
        put(&mut out, user.suffix);
        first = false;
    }
    let roles = [("system", system), ("user", user), ("assistant", assistant)];
    let left_out = match literals.system_rule {
        SystemRule::Message => 0,
        SystemRule::Refused => 1,
        SystemRule::Folded => 2,
    };
    for (role, texts) in &roles[left_out..] {
        let keyword = if std::mem::take(&mut first) { "if" } else { "elif" };
        // Writing to a string cannot fail.
        let _ = write!(out, "{{% {keyword} message['role'] == '{role}' %}}");
        around(&mut out, texts, "message['content']");
    }
    out.push_str(
        "{% else %}{{ raise_exception('Only the roles system, user and assistant are supported') }}{% endif %}\
         {% endfor %}{% if add_generation_prompt %}");
    put(&mut out, generate);
    if !end.is_empty() {
        out.push_str("{% else %}");
        put(&mut out, end);
    }
    out.push_str("{% endif %}");
    out
}

fn around(out: &mut String, texts: &MessageFormat<'_>, what: &str) {
    put(out, texts.prefix);
    content(out, texts.trim, what);
    put(out, texts.suffix);
}

fn content(out: &mut String, trim: bool, what: &str) {
    let trimmed = if trim { " | trim" } else { "" };
    let _ = write!(out, "{{{{ {what}{trimmed} }}}}");
}

/// Writes a constant text.
fn put(out: &mut String, text: &str) {
    if !text.is_empty() {
        out.push_str("{{ ");
        quote(out, text);
        out.push_str(" }}");
    }
}

/// Writes a string literal.
fn quote(out: &mut String, text: &str) {
    out.push('\'');
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter if letter.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out.push('\'');
}

/// Names that every rendering defines, and names that cannot be variables.
const RESERVED: [&str; 29] = [
    "bos_token",
    "eos_token",
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "true",
    "false",
    "none",
    "True",
    "False",
    "None",
    "not",
    "in",
    "is",
    "loop",
    "if",
    "else",
    "and",
    "or",
    "range",
    "dict",
    "debug",
    "namespace",
    "cycler",
    "joiner",
    "raise_exception",
    "strftime_now",
    "self",
];

/// The template, preceded by definitions of the named tokens that it may use, except `bos_token` and `eos_token`.
///
/// transformers passes all named tokens, but a chat section stores two. The definitions have their own line, which
/// `trim_blocks` removes, so that the template still starts a line.
pub fn define_tokens<'t>(template: &'t str, named: &[(String, String)]) -> Cow<'t, str> {
    let mut out = String::new();
    let words: HashSet<&str> = template.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    for (name, text) in named.iter().filter(|(name, _)| is_name(name) && words.contains(name.as_str())) {
        let _ = write!(out, "{{% set {name} = ");
        quote(&mut out, text);
        out.push_str(" %}");
    }
    if out.is_empty() {
        return Cow::Borrowed(template);
    }
    out.push('\n');
    Cow::Owned(out + template)
}

fn is_name(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    plain && !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty() && !RESERVED.contains(&name)
}
