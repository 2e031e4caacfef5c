//! Writes the Kotlin, Swift and Python files that call this crate.

fn main() {
    uniffi::uniffi_bindgen_main();
}
