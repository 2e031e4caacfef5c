//! The tensors that a recipe's `freeze` names.

use crate::error::{Error, Result};

/// What an entry may be, for messages.
const EXPECTED: &str = "embedding, head, norms, layers.N, layers.N-M, or a tensor's name in transformers with * for any characters, as in \
                        model.layers.*.mlp.*";

/// Which of `names` (Hugging Face's) the entries freeze.
///
/// # Errors
/// An entry that names no tensor.
pub(super) fn frozen(entries: &[String], names: &[&str]) -> Result<Vec<bool>> {
    let mut frozen = vec![false; names.len()];
    for entry in entries {
        let mut found = false;
        for (name, frozen) in names.iter().zip(&mut frozen) {
            if matches(entry, name) {
                (found, *frozen) = (true, true);
            }
        }
        if !found {
            return Err(Error::Invalid(format!(
                "freeze: {entry:?} names no tensor of this model; expected {EXPECTED}"
            )));
        }
    }
    Ok(frozen)
}

/// Whether an entry names a tensor.
fn matches(entry: &str, name: &str) -> bool {
    match entry {
        "embedding" => name == "model.embed_tokens.weight",
        "head" => name == "lm_head.weight",
        "norms" => name.ends_with("norm.weight"),
        _ => match (entry.strip_prefix("layers.").and_then(layers), layer_of(name)) {
            (Some((first, last)), Some(layer)) => (first..=last).contains(&layer),
            (Some(_), None) => false,
            (None, _) => glob(entry.as_bytes(), name.as_bytes()),
        },
    }
}

/// `N` or `N-M`.
fn layers(text: &str) -> Option<(usize, usize)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// The layer of a tensor.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()
}

/// Whether the whole name matches a pattern in which `*` stands for any characters.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    // The last `*`, and where what it stands for ends.
    let mut star = None;
    while from < name.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, from));
            at += 1;
        } else if pattern.get(at) == Some(&name[from]) {
            (at, from) = (at + 1, from + 1);
        } else if let Some((star_at, end)) = star {
            star = Some((star_at, end + 1));
            (at, from) = (star_at + 1, end + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_name_parts_layers_and_patterns() {
        let names = [
            "model.embed_tokens.weight",
            "model.layers.0.self_attn.q_proj.weight",
            "model.layers.1.mlp.down_proj.weight",
            "model.layers.10.input_layernorm.weight",
            "model.norm.weight",
            "lm_head.weight",
        ];
        for (entry, expected) in [
            ("embedding", "100000"),
            ("head", "000001"),
            ("norms", "000110"),
            ("layers.1", "001000"),
            ("layers.0-1", "011000"),
            ("layers.1-10", "001100"),
            ("model.layers.*.mlp.*", "001000"),
            ("*proj*", "011000"),
            ("*", "111111"),
            ("model.layers.1*", "001100"),
            ("lm_head.weight", "000001"),
        ] {
            let found = frozen(&[entry.to_owned()], &names).unwrap();
            let found: String = found.into_iter().map(|frozen| if frozen { '1' } else { '0' }).collect();
            assert_eq!(found, expected, "{entry}");
        }
        for none in ["layers.11", "layers.x", "lm_head", "q_proj", ""] {
            let error = frozen(&[none.to_owned()], &names).unwrap_err().to_string();
            assert!(error.contains(&format!("{none:?} names no tensor")), "{error}");
        }
    }
}
