//! A server with a tiny random model, asked through sockets.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

#[path = "server/answers.rs"]
mod answers;
#[path = "server/client.rs"]
mod client;
#[path = "server/completions.rs"]
mod completions;
#[path = "server/errors.rs"]
mod errors;
#[path = "server/served.rs"]
mod served;
#[path = "server/shapes.rs"]
mod shapes;
#[path = "server/sockets.rs"]
mod sockets;
#[path = "server/stopping.rs"]
mod stopping;
#[path = "../../../tests/tests/tiny/mod.rs"]
mod tiny;
