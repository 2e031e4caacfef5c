//! Each operation against the CPU's.

use crate::setup::{cpu, cuda, shape};
use thimble_trainer::parity::{OPERATIONS_LENGTHS, compare_operations};

#[test]
fn every_operation_agrees_with_the_cpu() {
    let config = shape(2, 1, true);
    let found =
        compare_operations(cuda(&config, OPERATIONS_LENGTHS), cpu(&config, OPERATIONS_LENGTHS)).unwrap();
    for operation in &found {
        println!("{operation:?}");
        assert!(operation.holds(), "{operation:?}");
    }
    // Some are exact; that all are would mean that the same operations ran twice.
    assert!(found.len() > 40 && found.iter().any(|operation| operation.distance > 0.0));
}
