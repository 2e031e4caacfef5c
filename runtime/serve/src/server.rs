//! A server from its socket to its end.

use crate::control::Control;
use crate::http::{App, Lane, Listening, PreparationSender, Preparations, listen};
use crate::metrics::Metrics;
use crate::model::ServedModel;
use crate::options::{OptionsError, ServeOptions};
use crate::prepare::Preparer;
use crate::schedule::{ModelTokens, Scheduler, SlotRunner};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::{io, thread};
use thiserror::Error;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// Why a server cannot start.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Options that open more than was meant.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The address cannot be used.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The system has no threads or signals for it.
    #[error("cannot start the server: {0}")]
    Start(io::Error),
}

/// A server that has its socket, and waits for its model.
pub struct Server {
    options: ServeOptions,
    listener: TcpListener,
    address: SocketAddr,
    stop: watch::Sender<bool>,
}

/// Stops a server; see [`Server::stopper`].
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    /// Refuses new requests, lets answers end within [`ServeOptions::grace_time`], and ends the server.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Server {
    /// Opens the socket. Until [`Server::run`], connections wait.
    ///
    /// # Errors
    /// Refused options, or an address that cannot be used.
    pub fn bind(options: ServeOptions) -> Result<Server, ServeError> {
        options.check()?;
        let wanted = options.address;
        let failed = |source| ServeError::Listen { address: wanted, source };
        let listener = TcpListener::bind(wanted).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Server { options, listener, address, stop: watch::channel(false).0 })
    }

    /// Where it listens, with the port that the system chose if none was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stops it from elsewhere.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stop.clone())
    }

    /// Serves `model` with `slots` until it is stopped, by [`Server::stopper`], or, if `signals` is set, by Ctrl-C or SIGTERM.
    /// The model runs on this thread.
    ///
    /// # Errors
    /// The system has no threads for it.
    pub fn run(
        self,
        model: ServedModel<'_>,
        slots: &mut dyn SlotRunner,
        signals: bool,
    ) -> Result<(), ServeError> {
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("http").enable_all().build();
        let runtime = runtime.map_err(ServeError::Start)?;
        if signals {
            stop_on_signals(&runtime, Stopper(self.stop.clone())).map_err(ServeError::Start)?;
        }
        let to_prepare = Arc::new(Preparations::default());
        let preparations = PreparationSender::new(Arc::clone(&to_prepare), self.options.queue);
        let (jobs, to_schedule) = channel();
        let (control, metrics) = (Arc::new(Control::default()), Arc::new(Metrics::default()));
        let state = (Arc::clone(&control), Arc::clone(&metrics));
        let size = (slots.slots(), slots.context());
        let app = App::new(self.options, &model, (preparations, jobs), state, size);
        let preparer = Preparer::new(model.file, slots.context());
        let config = model.file.config();
        let tokens =
            ModelTokens { vocab: config.vocab, stop: config.stop.iter().flatten().copied().collect() };
        let scheduler = Scheduler::new(slots, tokens, to_schedule, control, metrics);
        let (listener, stop) = (self.listener, self.stop.subscribe());
        thread::scope(|scope| {
            for lane in Lane::ALL {
                let (preparer, to_prepare) = (&preparer, &to_prepare);
                scope.spawn(move || {
                    while let Some(preparation) = to_prepare.next(lane) {
                        preparation(preparer);
                    }
                });
            }
            let http = scope.spawn(move || {
                let listening = runtime.block_on(async {
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    listen(Arc::new(app), Listening { listener, stop }).await;
                    Ok(())
                });
                // Connections that did not close in time are dropped.
                drop(runtime);
                listening
            });
            scheduler.run();
            http.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked")))
        })
        .map_err(ServeError::Start)
    }
}

/// Stops at the first Ctrl-C or SIGTERM; ends the process at the second.
fn stop_on_signals(runtime: &Runtime, stopper: Stopper) -> io::Result<()> {
    let _inside = runtime.enter();
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    runtime.spawn(async move {
        for _ in 0..2 {
            #[cfg(unix)]
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            #[cfg(not(unix))]
            let _ = tokio::signal::ctrl_c().await;
            if *stopper.0.borrow() {
                std::process::exit(130);
            }
            stopper.stop();
        }
    });
    Ok(())
}
