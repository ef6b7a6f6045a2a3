//! How much of a pool is in use, and who waits for it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::{Gauge, gauge};

use super::{POOL_IN_USE, POOL_SIZE, POOL_WAITING};

/// The gauges of one pool of connections. For backends.
#[derive(Clone)]
pub struct PoolMeter(Arc<Gauges>);

struct Gauges {
    /// 0 from its close on.
    capacity: AtomicUsize,
    waiters: AtomicUsize,
    size: Gauge,
    in_use: Gauge,
    waiting: Gauge,
}

/// A call that waits for a connection, until this is dropped.
#[must_use]
pub struct Waiter<'m>(&'m PoolMeter);

/// A connection in use, until this is dropped.
#[must_use]
pub struct InUse(PoolMeter);

impl PoolMeter {
    /// Of a pool of so many connections for this sort of work.
    pub fn new(backend: &'static str, lane: &'static str, capacity: usize) -> Self {
        let size = gauge!(POOL_SIZE.name, "backend" => backend, "lane" => lane);
        size.increment(capacity as f64);
        Self(Arc::new(Gauges {
            capacity: AtomicUsize::new(capacity),
            waiters: AtomicUsize::new(0),
            size,
            in_use: gauge!(POOL_IN_USE.name, "backend" => backend, "lane" => lane),
            waiting: gauge!(POOL_WAITING.name, "backend" => backend, "lane" => lane),
        }))
    }

    /// Notes a call that waits.
    pub fn waiter(&self) -> Waiter<'_> {
        self.0.waiters.fetch_add(1, Ordering::Relaxed);
        self.0.waiting.increment(1);
        Waiter(self)
    }

    /// Calls that wait now.
    pub fn waiters(&self) -> usize {
        self.0.waiters.load(Ordering::Relaxed)
    }

    /// The pool is closed: it counts no more, however long its handle is kept.
    pub fn close(&self) {
        self.0.close();
    }

    /// Notes a connection that is taken.
    pub fn in_use(&self) -> InUse {
        self.0.in_use.increment(1);
        InUse(self.clone())
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let Self(PoolMeter(gauges)) = self;
        gauges.waiters.fetch_sub(1, Ordering::Relaxed);
        gauges.waiting.decrement(1);
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let Self(PoolMeter(gauges)) = self;
        gauges.in_use.decrement(1);
    }
}

impl Gauges {
    fn close(&self) {
        let capacity = self.capacity.swap(0, Ordering::Relaxed);
        self.size.decrement(capacity as f64);
    }
}

impl Drop for Gauges {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for PoolMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolMeter")
            .field("capacity", &self.0.capacity)
            .field("waiters", &self.waiters())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Waiter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiter")
    }
}

impl fmt::Debug for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InUse")
    }
}
