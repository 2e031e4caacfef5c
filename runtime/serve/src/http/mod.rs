//! The HTTP side: connections, who may ask, bodies, routes and streams.

mod body;
mod connections;
mod guard;
mod listener;
mod log;
mod page;
mod preparations;
mod routes;
mod state;
mod stream;
mod timed;

pub(crate) use listener::{Listening, listen};
pub(crate) use preparations::{Lane, PreparationSender, Preparations};
pub(crate) use state::App;
