//! Defects of reads and writes as such, of handles, and of their end.

use std::sync::atomic::Ordering;

use persist_core::{
    Claim, Error, ErrorKind, Health, LARGEST_PRUNE, Mode, Outcome, PersistBackend as _, Prune, Result,
    Subject,
};

use super::{Broken, Defect};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lives {
    /// A closed handle goes on answering.
    AnswersAfterClose,
    /// Reads of a closed handle find nothing, as if there were nothing.
    EmptyAfterClose,
    /// A closed handle says `Unavailable`, which callers retry for ever.
    UnavailableAfterClose,
    /// Only `health` of a closed handle goes on answering.
    HealthyAfterClose,
    /// The second `close` is an error.
    CloseTwiceFails,
    /// Closing one handle closes all.
    CloseClosesAll,
    /// What was acknowledged is gone when its handle is closed.
    LostAtClose,
    /// A second handle sees nothing of what the first wrote.
    SecondHandleIsBlind,
    /// Reads see a batch only when the next one has come.
    ReadsLag,
    /// A job or VM that is not there is an error.
    MissingIsError,
    /// A dropped call leaves the handle busy for ever.
    DroppedCallLeavesBusy,
}

/// All, with the case that notices.
pub(super) const ALL: &[(Lives, &str)] = &[
    (Lives::AnswersAfterClose, ""),
    (Lives::EmptyAfterClose, ""),
    (Lives::UnavailableAfterClose, ""),
    (Lives::HealthyAfterClose, ""),
    (Lives::CloseTwiceFails, ""),
    (Lives::CloseClosesAll, ""),
    (Lives::LostAtClose, ""),
    (Lives::SecondHandleIsBlind, ""),
    (Lives::ReadsLag, ""),
    (Lives::MissingIsError, ""),
    (Lives::DroppedCallLeavesBusy, ""),
];

fn has(broken: &Broken, defect: Lives) -> bool {
    broken.defect == Some(Defect::Life(defect))
}

fn is_closed(broken: &Broken) -> bool {
    broken.closes.load(Ordering::SeqCst) > 0
}

/// Leaves the handle busy when it is dropped while armed.
struct Abandoned<'a> {
    broken: &'a Broken,
    armed: bool,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.broken.busy.store(true, Ordering::SeqCst);
        }
    }
}

/// Begins a call, where the handle lets it.
pub(super) async fn begin(broken: &Broken, operation: &'static str) -> Result<()> {
    if has(broken, Lives::DroppedCallLeavesBusy) {
        if broken.busy.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Busy, "another call is under way").during(operation));
        }
        let mut call = Abandoned { broken, armed: true };
        tokio::task::yield_now().await;
        call.armed = false;
    }
    if has(broken, Lives::CloseClosesAll) && broken.shared.closed.load(Ordering::SeqCst) {
        return Err(Error::new(ErrorKind::Closed, "this handle was closed").during(operation));
    }
    if has(broken, Lives::UnavailableAfterClose) && is_closed(broken) {
        return Err(Error::new(ErrorKind::Unavailable, "no connection").during(operation));
    }
    Ok(())
}

/// Whether reads find nothing, whatever there is.
pub(super) fn is_emptied(broken: &Broken) -> bool {
    has(broken, Lives::EmptyAfterClose) && is_closed(broken)
}

/// The answer for a row that is not there.
pub(super) fn missing<T>(broken: &Broken) -> Result<Option<T>> {
    if has(broken, Lives::MissingIsError) {
        return Err(Error::invalid("request_id", "is not known"));
    }
    Ok(None)
}

/// Applies the batch before, and tells what this one would get.
pub(super) async fn apply_held_back(broken: &Broken, claims: &[Claim]) -> Result<Vec<Outcome>> {
    let before = std::mem::replace(&mut *broken.held.lock(), claims.to_vec());
    broken.inner.apply(&before).await?;
    let trial = super::rewrite::copy_of(&broken.inner).await?;
    trial.apply(claims).await
}

pub(super) async fn health(broken: &Broken) -> Result<Health> {
    if has(broken, Lives::HealthyAfterClose) && is_closed(broken) {
        return Ok(Health::new("memory", Mode::Ready));
    }
    begin(broken, "health").await?;
    broken.inner.health().await
}

pub(super) async fn close(broken: &Broken) -> Result<()> {
    let before = broken.closes.fetch_add(1, Ordering::SeqCst);
    broken.shared.closed.store(true, Ordering::SeqCst);
    match broken.defect {
        Some(Defect::Life(Lives::AnswersAfterClose)) => return Ok(()),
        Some(Defect::Life(Lives::CloseTwiceFails)) if before > 0 => {
            return Err(Error::new(ErrorKind::Closed, "this handle was closed").during("close"));
        }
        Some(Defect::Life(Lives::LostAtClose)) if before == 0 => {
            let all: Vec<_> = broken.shared.log.lock().keys().map(Subject::request_id).collect();
            for some in all.chunks(LARGEST_PRUNE as usize) {
                broken
                    .inner
                    .prune(&Prune::default().ids(some.to_vec()).limit(LARGEST_PRUNE))
                    .await?;
            }
        }
        _ => {}
    }
    let held = std::mem::take(&mut *broken.held.lock());
    if !held.is_empty() {
        broken.inner.apply(&held).await?;
    }
    broken.inner.close().await
}
