//! Commands to copy into a shell.

use std::path::Path;

/// A path quoted for a shell.
pub fn quote(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%\\".contains(c);
    match path.chars().all(plain) {
        true => path,
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn paths_are_one_word_each() {
        for (path, word) in [
            ("runs/tiny-cpu", "runs/tiny-cpu"),
            ("my runs/a", "'my runs/a'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
        ] {
            assert_eq!(quote(path.as_ref()), word);
        }
    }
}
