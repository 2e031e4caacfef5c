//! A line on stderr for each request.

use super::connections::Connection;
use super::state::App;
use crate::metrics::Metrics;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Instant;

/// A request and what it took; written when the last owner drops it, at the end of its response.
pub(crate) struct RequestLog {
    method: String,
    path: String,
    pub(crate) begun: Instant,
    status: AtomicU16,
    prompt: AtomicUsize,
    cached: AtomicUsize,
    answer: AtomicUsize,
    shown: bool,
    metrics: Arc<Metrics>,
    connection: Arc<Connection>,
}

impl RequestLog {
    /// A request that has just arrived on a connection, which is idle again when the entry is dropped.
    pub(crate) fn new(method: &str, path: &str, connection: Arc<Connection>, app: &App) -> Arc<RequestLog> {
        // A path is ASCII, and may be long.
        let path = path.chars().take(80).filter(|letter| !letter.is_control()).collect();
        Arc::new(RequestLog {
            method: method.chars().take(16).collect(),
            path,
            begun: Instant::now(),
            status: AtomicU16::new(0),
            prompt: AtomicUsize::new(0),
            cached: AtomicUsize::new(0),
            answer: AtomicUsize::new(0),
            shown: app.options.logs,
            metrics: Arc::clone(&app.metrics),
            connection,
        })
    }

    /// The status of its response.
    pub(crate) fn status(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// The tokens that it took so far.
    pub(crate) fn tokens(&self, usage: crate::api::response::Usage) {
        self.prompt.store(usage.prompt, Ordering::Relaxed);
        self.cached.store(usage.cached, Ordering::Relaxed);
        self.answer.store(usage.answer, Ordering::Relaxed);
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        let load = |number: &AtomicUsize| number.load(Ordering::Relaxed);
        let status = self.status.load(Ordering::Relaxed);
        self.metrics.responded(status);
        self.connection.set_busy(false);
        if !self.shown {
            return;
        }
        let RequestLog { method, path, prompt, cached, answer, .. } = self;
        let milliseconds = self.begun.elapsed().as_millis();
        let status = match status {
            0 => "client left".to_owned(),
            status => status.to_string(),
        };
        let tokens = match load(prompt) {
            0 => String::new(),
            prompt => format!(" prompt {prompt} ({} cached), answer {},", load(cached), load(answer)),
        };
        // A closed stderr is no reason to stop.
        let _ = writeln!(std::io::stderr(), "{method} {path} {status}{tokens} {milliseconds} ms");
    }
}
