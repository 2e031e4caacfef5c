//! Flags that several commands share, each group with its meaning. No group knows a command.

pub(crate) mod grammar;
pub(crate) mod machine;
pub(crate) mod numbers;
pub(crate) mod recipe;
pub(crate) mod sampling;
pub(crate) mod system;
pub(crate) mod thinking;
pub(crate) mod tools;
