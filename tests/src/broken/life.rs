//! Defects of reads and writes as such, of handles, and of their end.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use persist_core::{
    Claim, Error, ErrorKind, Health, Job, LARGEST_PRUNE, Mode, PersistBackend as _, Prune, Result, Subject,
};
use uuid::Uuid;

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
    /// A job is read as it was before the last batch.
    ReadsLag,
    /// A job or VM that is not there is an error.
    MissingIsError,
    /// A dropped call leaves the handle busy for ever.
    DroppedCallLeavesBusy,
}

/// All, with the case that notices.
pub(super) const ALL: &[(Lives, &str)] = &[
    (
        Lives::AnswersAfterClose,
        "closing::every_call_after_close_is_closed",
    ),
    (
        Lives::EmptyAfterClose,
        "closing::every_call_after_close_is_closed",
    ),
    (
        Lives::UnavailableAfterClose,
        "closing::every_call_after_close_is_closed",
    ),
    (
        Lives::HealthyAfterClose,
        "closing::every_call_after_close_is_closed",
    ),
    (Lives::CloseTwiceFails, "closing::closing_twice_is_fine"),
    (Lives::CloseClosesAll, "closing::another_handle_lives_on"),
    (
        Lives::LostAtClose,
        "closing::what_is_acknowledged_is_there_after_reopening",
    ),
    (
        Lives::SecondHandleIsBlind,
        "concurrency::a_handle_reads_what_another_wrote",
    ),
    (Lives::ReadsLag, "concurrency::each_writer_reads_its_own_writes"),
    (Lives::MissingIsError, "outcomes::jobs_do_not_meet"),
    (
        Lives::DroppedCallLeavesBusy,
        "cancelling::t1_any_call_dropped_at_every_await_leaves_a_usable_backend",
    ),
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
    // Here, as some calls are looked at before they reach the store, and the end of a handle comes before all.
    if broken.inner.instance_id().is_none() && !is_emptied(broken) {
        return Err(Error::new(ErrorKind::Closed, "this handle was closed").during(operation));
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

/// Notes the jobs of a batch as they are before it, where they will be read so.
pub(super) async fn remember(broken: &Broken, claims: &[Claim]) -> Result<()> {
    if has(broken, Lives::ReadsLag) {
        let mut before = HashMap::new();
        for id in claims.iter().map(|claim| claim.subject().request_id()) {
            before.insert(id, broken.inner.job(id).await?);
        }
        *broken.before.lock() = before;
    }
    Ok(())
}

/// The job as it was before the last batch, where that is what is read.
pub(super) fn remembered(broken: &Broken, id: Uuid) -> Option<Option<Job>> {
    broken.before.lock().get(&id).cloned()
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
    broken.inner.close().await
}
