//! What the layer of faults does to calls, and what is made of lost answers.

use persist_core::JobState::{Failed, Queued};
use persist_core::UpdateOutcome::{self, NotApplied, Unknown};
use persist_core::layer::Fault::{self, Delay, FailAfter, FailBefore, FreezeAfter, FreezeBefore};
use persist_core::{JobState, Retry};
use persist_memory::MemoryBackend;
use tokio::time::{Instant, timeout};

use super::*;
use crate::broken::{BrokenStores, Defect, Writes};
use crate::factory::Factory as _;
use crate::sample::{CREATED, claims, id, job};

type Store = Arc<dyn PersistBackend>;

fn store() -> Store {
    Arc::new(MemoryBackend::new())
}

fn faulty(store: &Store, faults: Faults) -> Faulty<dyn PersistBackend> {
    Faulty::new(Arc::clone(store), faults)
}

async fn apply(backend: &dyn PersistBackend, state: JobState) -> Result<Vec<Outcome>> {
    backend.apply(&claims([job(1, state)])?).await
}

async fn is_stored(store: &Store) -> bool {
    store.job(id(1)).await.unwrap().is_some()
}

#[tokio::test]
async fn a_call_fails_before_or_after_it_ran_and_says_which() {
    let cases: [(Fault, ErrorKind, UpdateOutcome, bool); 2] = [
        (FailBefore, ErrorKind::Unavailable, NotApplied, false),
        (FailAfter, ErrorKind::OutcomeUnknown, Unknown, true),
    ];
    for (fault, kind, outcome, stored) in cases {
        let store = store();
        let faulty = faulty(&store, Faults::default().at(2, fault).retried(Retry::Now));
        assert_eq!(faulty.job(id(1)).await.unwrap(), None);
        let error = apply(&faulty, Queued).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (kind, outcome));
        assert_eq!((error.operation(), error.retry()), (Some("apply"), Retry::Now));
        assert_eq!(is_stored(&store).await, stored);
        assert_eq!((faulty.calls(), faulty.struck()), (2, 1));
    }
}

#[tokio::test]
async fn every_call_has_its_number_but_health_and_close() {
    let store = store();
    apply(&*store, Failed).await.unwrap();
    for fault in [FailBefore, FailAfter] {
        let faulty = faulty(&store, Faults::default().rate(1.0, fault));
        let reads = [
            faulty.job(id(1)).await.err(),
            faulty.vm(&VmKey::new(id(1), "vm")).await.err(),
            faulty.jobs(&JobQuery::default()).await.err(),
            faulty.vms(&VmQuery::default()).await.err(),
            faulty.events(&EventQuery::default()).await.err(),
        ];
        for error in reads {
            assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Unavailable));
        }
        let prune = Prune::default().ids([id(1)]);
        let error = faulty.prune(&prune).await.unwrap_err();
        assert_eq!(is_stored(&store).await, fault == FailBefore, "{error:?}");
        faulty.health().await.unwrap();
        assert_eq!((faulty.calls(), faulty.struck()), (6, 6));
    }
    faulty(&store, Faults::default().rate(1.0, FailBefore))
        .close()
        .await
        .unwrap();
    assert_eq!(
        apply(&*store, Queued).await.unwrap_err().kind(),
        ErrorKind::Closed
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_is_delayed_or_never_answers() {
    let (store, late) = (store(), Duration::from_secs(5));
    let faults = Faults::default()
        .at(1, FreezeBefore)
        .at(2, Delay(late))
        .at(4, FreezeAfter);
    let faulty = faulty(&store, faults);
    assert!(timeout(late, apply(&faulty, Queued)).await.is_err());
    assert!(!is_stored(&store).await);
    let begun = Instant::now();
    assert_eq!(apply(&faulty, Queued).await.unwrap(), [CREATED]);
    assert_eq!(begun.elapsed(), late);
    apply(&faulty, Queued).await.unwrap();
    assert!(timeout(late, apply(&faulty, Failed)).await.is_err());
    assert_eq!(store.job(id(1)).await.unwrap().unwrap().state, Failed, "it ran");
}

#[tokio::test(start_paused = true)]
async fn a_retried_call_is_told_what_its_first_try_did() {
    let lost = || Faults::default().at(1, FailAfter).at(2, FailAfter);
    let within = Duration::from_secs(60);
    let backend = behind_faults(store(), lost(), within);
    assert_eq!(apply(&*backend, Failed).await.unwrap(), [CREATED]);
    let lost_prune = Faults::default().at(2, FailAfter);
    let backend = behind_faults(store(), lost_prune, within);
    apply(&*backend, Failed).await.unwrap();
    let pruned = backend.prune(&Prune::default().ids([id(1)])).await.unwrap();
    assert_eq!(pruned, Pruned::new(1, 1, 0, 1, false));
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_is_told_something_else_is_an_error() {
    let stores = BrokenStores(Some(Defect::Write(Writes::UnchangedReadsApplied)));
    let store = stores.fresh().await.unwrap();
    let faults = Faults::default().at(1, FailAfter);
    let backend = behind_faults(Arc::clone(store.backend()), faults, Duration::from_secs(60));
    let error = apply(&*backend, Failed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
}
