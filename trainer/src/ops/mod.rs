//! The operations of a training step, each with its gradient, behind one trait.
