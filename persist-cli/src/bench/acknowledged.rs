//! `bench --outcomes`: a line for each update that was acknowledged.

use std::io;

use persist::{Claim, Event, Seq, Slot, jsonl};
use tokio::sync::mpsc;

use crate::output::Output;

/// Lines that may wait; then callers do.
const WAITING: usize = 1_024;

/// Where callers tell, and where it is printed from.
pub(crate) fn channel() -> (mpsc::Sender<String>, mpsc::Receiver<String>) {
    mpsc::channel(WAITING)
}

/// The line that `export` has of the slot that this claim takes.
pub(crate) fn line(claim: &Claim) -> String {
    let slot = Slot::claimed_by(claim);
    let event = Event::new(Seq::new(0), claim.at(), claim.subject().clone(), slot);
    jsonl::line(&event)
}

/// Prints what is told until nobody tells any more. What has come together goes out together, and at once.
///
/// # Errors
/// That stdout can't be written; callers then find the channel closed.
pub(crate) async fn print(mut told: mpsc::Receiver<String>, out: &mut Output) -> io::Result<()> {
    let mut lines = Vec::with_capacity(WAITING);
    while told.recv_many(&mut lines, WAITING).await > 0 {
        for line in lines.drain(..) {
            out.line(&line)?;
        }
        out.flush()?;
    }
    Ok(())
}
