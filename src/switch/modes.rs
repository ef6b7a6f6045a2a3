//! Who is told of the mode: embedders that watch it, and the metrics.

use parking_lot::Mutex;
use persist_core::Mode;
use persist_core::metrics::HandleMeter;
use tokio::sync::watch;

/// The mode of a switch, for others. Told under the lock of the situation, so that it is told in order.
#[derive(Debug)]
pub(super) struct Modes {
    /// `None` after close: what ends the watching.
    sender: Mutex<Option<watch::Sender<Mode>>>,
    latest: watch::Receiver<Mode>,
    pub(super) meter: HandleMeter,
}

impl Modes {
    pub(super) fn new(backend: &'static str, mode: Mode) -> Self {
        let (sender, latest) = watch::channel(mode);
        let meter = HandleMeter::new(backend);
        meter.mode(mode);
        Self {
            sender: Mutex::new(Some(sender)),
            latest,
            meter,
        }
    }

    pub(super) fn tell(&self, mode: Mode) {
        let mut sender = self.sender.lock();
        let Some(open) = &*sender else { return };
        open.send_replace(mode);
        self.meter.mode(mode);
        if mode == Mode::Closed {
            *sender = None;
        }
    }

    /// Of the present mode and those to come.
    pub(super) fn watch(&self) -> watch::Receiver<Mode> {
        let mut watch = self.latest.clone();
        // Of what was before nobody asks.
        watch.mark_unchanged();
        watch
    }
}
