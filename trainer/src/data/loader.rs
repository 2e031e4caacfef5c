//! The loader: packing, seeded shuffling, mixtures that change by stage.
