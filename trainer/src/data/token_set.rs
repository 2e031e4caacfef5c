//! Token sets: folders of shards with a manifest.
