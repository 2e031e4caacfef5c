//! Whether a file to write belongs to the model being read.

use std::fs;
use std::path::Path;

/// Whether writing to `target` would replace `source`, another shard of the same model, or a file in the folder `source`
/// that the converter reads.
pub(crate) fn replaces(target: &Path, source: &Path) -> bool {
    // By the name as typed: the target of a link may have any other name.
    let parts = thimble_converter::read::shards(source);
    let parts: Vec<_> = parts.iter().filter_map(|part| fs::canonicalize(part).ok()).collect();
    let (Ok(target), Ok(source)) = (fs::canonicalize(target), fs::canonicalize(source)) else { return false };
    let ours = target.extension().is_some_and(|ext| ext == "thimble");
    let entries = fs::read_dir(&source).into_iter().flatten().flatten();
    let mut files = entries.filter_map(|entry| fs::canonicalize(entry.path()).ok());
    parts.contains(&target) || (!ours && files.any(|file| file == target))
}

#[cfg(test)]
mod tests {
    use super::replaces;
    use std::fs;

    #[test]
    fn a_source_is_recognised_under_another_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("hf")).unwrap();
        for file in
            ["m.gguf", "hf/config.json", "hf/m.thimble", "s-00001-of-00002.gguf", "s-00002-of-00002.gguf"]
        {
            fs::write(path(file), "").unwrap();
        }
        assert!(replaces(&path("hf/../m.gguf"), &path("m.gguf")));
        assert!(replaces(&path("hf/config.json"), &path("hf")));
        assert!(!replaces(&path("hf/m.thimble"), &path("hf")));
        assert!(!replaces(&path("hf/new"), &path("hf")));
        assert!(!replaces(&path("m.thimble"), &path("m.gguf")));
        assert!(replaces(&path("s-00002-of-00002.gguf"), &path("s-00001-of-00002.gguf")));
        assert!(!replaces(&path("m.gguf"), &path("s-00001-of-00002.gguf")));
    }
}
