//! What a source is rewritten to.

use super::rewrite;

fn becomes(source: &str, expected: &str) {
    assert_eq!(rewrite(source).source, expected, "{source}");
}

#[test]
fn line_ends_are_those_of_jinja() {
    becomes("a\r\nb\rc\nd\n\r", "a\nb\nc\nd\n\n");
    becomes("{{ 'x\r\ny' }}", "{{ \"x\\ny\" }}");
}

#[test]
fn slices_become_calls() {
    becomes("{{ m[1:] }}", "{{ m.__slice__(1, none) }}");
    becomes("{{ m[ : : -1 ][0] }}", "{{ m.__slice__(none, none,  -1 )[0] }}");
    becomes("{{ a['b'][f(x[2:3]):-1] }}", "{{ a[\"b\"].__slice__(f(x.__slice__(2, 3)), -1) }}");
    becomes("{% for m in [1, 2][:1] if x %}", "{% for m in [1, 2].__slice__(none, 1) if x %}");
    becomes("{{ {'a': 1}['a'] }}{{ [{'a': 2}] }}", "{{ {\"a\": 1}[\"a\"] }}{{ [{\"a\": 2}] }}");
    becomes("{{ x[{'a': 1}.a] }}", "{{ x[{\"a\": 1}.a] }}");
    becomes(
        "text [1:2] {# [3:4] #}{% raw %}{{ a[1:] }}{% endraw %}",
        "text [1:2] {# [3:4] #}{% raw %}{{ a[1:] }}{% endraw %}",
    );
}

#[test]
fn the_formatting_operator_becomes_a_call() {
    becomes("{{ '%d' % x.y[0](1) ~ z }}", "{{ \"%d\" .__mod__( x.y[0](1)) ~ z }}");
    becomes("{{ '%s, %s' % (a, b[1:]) }}", "{{ \"%s, %s\" .__mod__( (a, b.__slice__(1, none))) }}");
    becomes("{{ '%s' % a | upper + 'b' }}", "{{ \"%s\" .__mod__( a | upper) + \"b\" }}");
    becomes("{{ loop.index % 2 }}", "{{ loop.index % 2 }}");
}

#[test]
fn literals_are_python_s() {
    let read = |source: &str| rewrite(&format!("{{{{ {source} }}}}")).literals;
    assert_eq!(read(r"'a\nb\x41\u00e9\101\d\''"), ["a\nbA\u{e9}A\\d'"]);
    assert_eq!(read(r#""it's" 'x'"#), ["it's", "x"]);
    becomes(r"{{ 'a' 'b' }}", r#"{{ "ab" }}"#);
    becomes(r"{{ 'a\\' ~ '}}' }}", r#"{{ "a\\" ~ "}}" }}"#);
    becomes("{{ {'a': {'b': 1}} }}", "{{ {\"a\": {\"b\": 1}} }}");
}

#[test]
fn generation_tags_are_scopes() {
    becomes("{%- generation -%}x{% endgeneration +%}", "{%- with -%}x{% endwith +%}");
}

#[test]
fn what_does_not_end_is_left_alone() {
    for source in
        ["{{ a[1:", "{% if 'x", "{# never", "{", "{{", "{% raw %}{{ x[1:] }}", "{{ ) ] } }}", "{{ '\\"]
    {
        becomes(source, source);
    }
}
