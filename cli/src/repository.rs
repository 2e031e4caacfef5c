//! Names of repositories on the hub, as users type them.

use thimble_files::model_file_stem;

/// Whether `typed` has the form OWNER/NAME of a repository: as on the hub, without `--`. A path may have it, too.
pub(crate) fn is_repository(typed: &str) -> bool {
    let plain = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        (1..=96).contains(&part.len()) && !part.starts_with('.') && part.bytes().all(allowed)
    };
    !typed.contains("--") && typed.split_once('/').is_some_and(|(owner, name)| plain(owner) && plain(name))
}

/// Whether `typed` can name a model of the store that comes from no repository: no path, and not what `model_file_stem` makes
/// of a repository.
pub(crate) fn is_local(typed: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=96).contains(&typed.len())
        && typed.as_bytes()[0].is_ascii_alphanumeric()
        && typed.bytes().all(allowed)
        && !typed.contains("--")
}

/// The repository that [`model_file_stem`] made this of, if it did.
pub(crate) fn from_file_stem(stem: &str) -> Option<String> {
    let name = stem.replacen("--", "/", 1);
    (is_repository(&name) && model_file_stem(&name) == stem).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::{from_file_stem, is_local, is_repository};
    use thimble_files::model_file_stem;

    #[test]
    fn local_names_are_plain() {
        for name in ["mine", "smollm2-70m.q4", "7b_x"] {
            assert!(is_local(name), "{name}");
        }
        for name in ["", ".x", "-x", "a/b", "a b", "a--b", "é", &"x".repeat(97)] {
            assert!(!is_local(name), "{name}");
        }
    }

    #[test]
    fn repositories_have_an_owner_and_a_name() {
        for name in ["Qwen/Qwen3-0.6B", "a/b", "x_1/y.z"] {
            assert!(is_repository(name), "{name}");
            assert_eq!(from_file_stem(&model_file_stem(name)).as_deref(), Some(name));
        }
        for name in ["a", "a/b/c", "/a", "a/", "./a", "../a", "a/..", "a b/c", "a\\b", "a--b/c", "a/b--c", ""]
        {
            assert!(!is_repository(name), "{name}");
        }
        for stem in ["smollm2-135m", "a--b--c", "a/b"] {
            assert_eq!(from_file_stem(stem), None, "{stem}");
        }
    }
}
