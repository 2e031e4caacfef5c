//! Accepts connections, and ends them.

use super::connections::{Connections, OpenConnection};
use super::routes::{Service, handle};
use super::state::App;
use super::timed::TimedStream;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Longest head of a request, bytes.
const MOST_HEAD_BYTES: usize = 32 << 10;
/// Most lines in the head of a request.
const MOST_HEADERS: usize = 64;
/// How long a connection may take to close.
const CLOSING: Duration = Duration::from_secs(1);
/// How long to wait if the system has no room for a connection.
const NO_ROOM: Duration = Duration::from_millis(50);

/// A socket that accepts connections.
pub(crate) struct Listening {
    /// The socket.
    pub(crate) listener: TcpListener,
    /// True once the server has to stop.
    pub(crate) stop: watch::Receiver<bool>,
}

/// Serves until the server has to stop and its answers have ended.
pub(crate) async fn listen(app: Arc<App>, mut listening: Listening) {
    let connections = Connections::new(app.options.max_connections, Arc::clone(&app.metrics));
    let service = Arc::new(Service::new(Arc::clone(&app)));
    // Each connection has a receiver: the last one to go closes the channel.
    let (open, mut all_closed) = tokio::sync::mpsc::channel::<Infallible>(1);
    loop {
        let accepted = tokio::select! {
            accepted = listening.listener.accept() => accepted,
            _ = listening.stop.wait_for(|stop| *stop) => break,
        };
        let Ok((stream, peer)) = accepted else {
            connections.make_room();
            sleep(NO_ROOM).await;
            continue;
        };
        // All connections are busy, and closing this one says so.
        let Some(connection) = connections.open() else { continue };
        let (service, stop, open) = (Arc::clone(&service), listening.stop.clone(), open.clone());
        tokio::spawn(async move {
            serve_connection(service, connection, (stream, peer), stop).await;
            drop(open);
        });
    }
    drop((listening.listener, open));
    app.control.stop();
    if timeout(app.options.grace_time, all_closed.recv()).await.is_err() {
        app.control.finish();
        // The last words of the answers.
        let _ = timeout(CLOSING, all_closed.recv()).await;
    }
    app.control.finish();
}

async fn serve_connection(
    service: Arc<Service>,
    connection: OpenConnection,
    (stream, peer): (TcpStream, SocketAddr),
    mut stop: watch::Receiver<bool>,
) {
    // Tokens should not wait for the next one; a failure only costs time.
    let _ = stream.set_nodelay(true);
    let idle_time = service.app.options.idle_time;
    let io = TokioIo::new(TimedStream::new(stream, idle_time));
    let state = Arc::clone(&connection.connection);
    let answer = service_fn(|request| handle(Arc::clone(&service), Arc::clone(&state), peer.ip(), request));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle_time)
        .max_buf_size(MOST_HEAD_BYTES)
        .max_headers(MOST_HEADERS)
        .serve_connection(io, answer);
    let mut serving = std::pin::pin!(serving);
    let evicted = tokio::select! {
        // What a client breaks is its own.
        _ = serving.as_mut() => return,
        () = connection.connection.close.notified() => true,
        _ = stop.wait_for(|stop| *stop) => false,
    };
    serving.as_mut().graceful_shutdown();
    match evicted {
        true => drop(timeout(CLOSING, serving).await),
        false => drop(serving.await),
    }
}
