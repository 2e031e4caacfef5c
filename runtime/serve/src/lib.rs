//! A local server with OpenAI's HTTP API: many answers at a time from one model.
//!
//! [`Server::bind`] opens the socket, [`Server::run`] serves a model with a [`SlotRunner`], which runs its sequences, until it is stopped.
#![deny(unsafe_code)]

mod answer;
mod api;
mod control;
mod error;
mod http;
mod metrics;
mod model;
mod options;
mod prepare;
mod schedule;
mod server;
mod vocabulary;

pub use model::ServedModel;
pub use options::{ApiKey, OptionsError, ServeOptions};
pub use schedule::{SessionSlot, SlotRunner};
pub use server::{ServeError, Server, Stopper};
