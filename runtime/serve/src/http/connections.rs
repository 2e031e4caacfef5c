//! Open connections: how many there may be, and which one goes if there are too many.

use crate::metrics::Metrics;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// All open connections.
pub(crate) struct Connections {
    open: Mutex<BTreeMap<u64, Arc<Connection>>>,
    next: AtomicU64,
    limit: usize,
    metrics: Arc<Metrics>,
}

/// What is known about a connection.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    /// Whether it has a request whose body has arrived.
    busy: AtomicBool,
    /// Tells the connection to close.
    pub(crate) close: Notify,
}

impl Connection {
    /// A whole request has arrived, or was answered.
    pub(crate) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }
}

/// An open connection, until it is dropped.
pub(crate) struct OpenConnection {
    connections: Arc<Connections>,
    number: u64,
    pub(crate) connection: Arc<Connection>,
}

impl Connections {
    /// At most `limit` connections.
    pub(crate) fn new(limit: usize, metrics: Arc<Metrics>) -> Arc<Connections> {
        Arc::new(Connections { open: Mutex::default(), next: AtomicU64::new(0), limit, metrics })
    }

    /// Adds a connection. If there are too many, closes the oldest that waits for its client; `None` if all are busy.
    pub(crate) fn open(self: &Arc<Connections>) -> Option<OpenConnection> {
        let connection = Arc::new(Connection::default());
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut open = self.lock();
        if open.len() >= self.limit && !evict(&mut open) {
            return None;
        }
        open.insert(number, Arc::clone(&connection));
        self.metrics.connections.store(open.len() as u64, Ordering::Relaxed);
        Some(OpenConnection { connections: Arc::clone(self), number, connection })
    }

    /// Closes the oldest connection that waits for its client: the system has no room for more.
    pub(crate) fn make_room(&self) {
        evict(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the oldest idle connection; false if all are busy.
fn evict(open: &mut BTreeMap<u64, Arc<Connection>>) -> bool {
    let idle = open.iter().find(|(_, connection)| !connection.busy.load(Ordering::Relaxed));
    let idle = idle.map(|(&number, _)| number).and_then(|number| open.remove(&number));
    idle.inspect(|connection| connection.close.notify_one()).is_some()
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.remove(&self.number);
        self.connections.metrics.connections.store(open.len() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Connections;

    #[test]
    fn the_oldest_idle_connection_gives_way() {
        let connections = Connections::new(2, Default::default());
        let first = connections.open().unwrap();
        let second = connections.open().unwrap();
        first.connection.set_busy(true);
        let third = connections.open().unwrap();
        let open: Vec<u64> = connections.lock().keys().copied().collect();
        assert_eq!(open, [first.number, third.number]);
        third.connection.set_busy(true);
        assert!(connections.open().is_none());
        drop((first, second));
        assert!(connections.open().is_some());
    }
}
