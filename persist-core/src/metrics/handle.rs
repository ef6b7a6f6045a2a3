//! The mode of a handle, and what it drops.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics::{Counter, counter, gauge};

use super::{DROPPED_UPDATES, MODE};
use crate::health::Mode;

/// The metrics of one handle of the facade.
pub struct HandleMeter {
    backend: &'static str,
    mode: Mutex<Option<Mode>>,
    not_sent: Counter,
    unknown: Counter,
}

impl HandleMeter {
    /// Of a handle onto this backend.
    pub fn new(backend: &'static str) -> Self {
        let dropped = |sent| counter!(DROPPED_UPDATES.name, "backend" => backend, "sent" => sent);
        Self {
            backend,
            mode: Mutex::new(None),
            not_sent: dropped("no"),
            unknown: dropped("unknown"),
        }
    }

    /// Notes the mode, in place of that before.
    pub fn mode(&self, mode: Mode) {
        self.moves_to(Some(mode));
    }

    fn present(&self) -> MutexGuard<'_, Option<Mode>> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moves_to(&self, mode: Option<Mode>) {
        let mut present = self.present();
        let handles = |mode: Mode| gauge!(MODE.name, "backend" => self.backend, "mode" => mode.name());
        if let Some(before) = std::mem::replace(&mut *present, mode) {
            handles(before).decrement(1);
        }
        if let Some(mode) = mode {
            handles(mode).increment(1);
        }
    }

    /// Notes updates that were certainly not sent.
    pub fn dropped(&self, updates: usize) {
        self.not_sent.increment(updates as u64);
    }

    /// Notes updates that were sent without an answer and given up.
    pub fn unknown(&self, updates: usize) {
        self.unknown.increment(updates as u64);
    }
}

impl Drop for HandleMeter {
    fn drop(&mut self) {
        self.moves_to(None);
    }
}

impl fmt::Debug for HandleMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandleMeter")
            .field("backend", &self.backend)
            .field("mode", &*self.present())
            .finish_non_exhaustive()
    }
}
