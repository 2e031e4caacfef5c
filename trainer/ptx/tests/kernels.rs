//! Every kernel's committed PTX against double-precision references, and faults in inline assembly that these must catch.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

#[path = "kernels/attention.rs"]
mod attention;
#[path = "kernels/embedding.rs"]
mod embedding;
#[path = "kernels/far.rs"]
mod far;
#[path = "kernels/faults.rs"]
mod faults;
#[path = "kernels/harness.rs"]
mod harness;
#[path = "kernels/heads.rs"]
mod heads;
#[path = "kernels/loss.rs"]
mod loss;
#[path = "kernels/norms.rs"]
mod norms;
#[path = "kernels/optimizer.rs"]
mod optimizer;
#[path = "kernels/swiglu.rs"]
mod swiglu;

use harness::{Checked, committed_text};
use thimble_ptx::Module;

/// A check of some kernels of a module.
type Check = fn(&Module) -> Checked;

const CHECKS: [(&str, Check); 12] = [
    ("attention of one head", attention::one_head),
    ("attention of groups", attention::groups),
    ("attention's edges", attention::edges),
    ("norms", norms::check),
    ("heads", heads::check),
    ("swiglu", swiglu::check),
    ("cross-entropy", loss::cross_entropy),
    ("divergence", loss::divergence),
    ("embedding", embedding::check),
    ("norm of the gradient", optimizer::square_sums),
    ("optimizer", optimizer::steps),
    ("indices beyond 31 bits", far::check),
];

#[test]
fn kernels_match_their_references() {
    let module = Module::parse(&committed_text()).unwrap();
    let failed: Vec<String> = CHECKS
        .iter()
        .filter_map(|(name, check)| Some(format!("{name}: {}", check(&module).err()?)))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let launched = harness::LAUNCHED.lock().unwrap();
    for entry in module.entries() {
        let name = &entry.name;
        let used = *launched
            .get(name)
            .unwrap_or_else(|| panic!("no test launches {name} as the table of resources has it"));
        // Arrays in shared memory begin at multiples of 128 bytes.
        let said = harness::resource(name, "dynamic_shared") as usize;
        assert_eq!(
            said,
            used.next_multiple_of(128),
            "{name}: shared memory in the table of resources, and as used"
        );
    }
}
