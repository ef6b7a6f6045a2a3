//! What is told of a call.

use std::collections::HashMap;
use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use super::*;
use crate::layer::Observed;

/// Series by name and labels, as `name{label=value,…}`, with what they count.
fn told(snapshotter: &Snapshotter) -> HashMap<String, u64> {
    let series = snapshotter.snapshot().into_vec().into_iter();
    series
        .map(|(key, _, _, value)| {
            let (name, labels) = key.key().clone().into_parts();
            let labels: Vec<_> = labels
                .iter()
                .map(|label| format!("{}={}", label.key(), label.value()))
                .collect();
            let count = match value {
                DebugValue::Counter(count) => count,
                DebugValue::Gauge(level) => level.0 as u64,
                DebugValue::Histogram(values) => values.len() as u64,
            };
            (format!("{}{{{}}}", name.as_str(), labels.join(",")), count)
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn calls_are_counted_by_their_end() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = ::metrics::set_default_local_recorder(&recorder);
    let slow = Duration::from_secs(1);
    let id = Uuid::from_u128(1);
    let good = Observed::new(Stub::new(Manner::Answers), slow);
    good.apply(&claims(3)).await.unwrap();
    good.job(id).await.unwrap();
    let away = Observed::new(Stub::new(Manner::Fails(ErrorKind::Unavailable)), slow);
    away.apply(&claims(2)).await.unwrap_err();
    let lost = Observed::new(Stub::new(Manner::Fails(ErrorKind::OutcomeUnknown)), slow);
    lost.apply(&claims(5)).await.unwrap_err();
    let hung = Observed::new(Stub::new(Manner::Hangs), slow);
    tokio::time::timeout(slow * 2, hung.job(id)).await.unwrap_err();
    let told = told(&snapshotter);
    for (series, count) in [
        (
            "persist_operations_total{backend=postgres,operation=apply,outcome=ok}",
            1,
        ),
        (
            "persist_operations_total{backend=postgres,operation=job,outcome=ok}",
            1,
        ),
        (
            "persist_operations_total{backend=postgres,operation=apply,outcome=unavailable}",
            1,
        ),
        (
            "persist_operations_total{backend=postgres,operation=apply,outcome=outcome_unknown}",
            1,
        ),
        (
            "persist_operations_total{backend=postgres,operation=job,outcome=cancelled}",
            1,
        ),
        (
            "persist_operation_duration_seconds{backend=postgres,operation=apply}",
            3,
        ),
        (
            "persist_operation_duration_seconds{backend=postgres,operation=job}",
            2,
        ),
        ("persist_updates_total{backend=postgres,outcome=applied}", 3),
        ("persist_updates_total{backend=postgres,outcome=not_applied}", 2),
        ("persist_updates_total{backend=postgres,outcome=unknown}", 5),
    ] {
        assert_eq!(told.get(series), Some(&count), "{series} of {told:#?}");
    }
}

#[test]
fn each_update_is_counted_as_what_it_became() {
    let current = Current {
        state: JobState::Queued.into(),
        attempt: Attempt::FIRST,
    };
    let standing = current.state;
    for outcome in [
        Outcome::Applied { created: false },
        Outcome::Late { current },
        Outcome::Filled { current },
        Outcome::Unchanged { current },
        Outcome::Refused { standing, current },
        Outcome::Spooled,
        Outcome::Dropped,
    ] {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let _guard = ::metrics::set_default_local_recorder(&recorder);
        crate::layer::observe::count(&[outcome]);
        let series = format!(
            "persist_updates_total{{backend=postgres,outcome={}}}",
            outcome.name()
        );
        let told = told(&snapshotter);
        assert_eq!(told.get(&series), Some(&1), "{told:#?}");
        assert_eq!(told.values().sum::<u64>(), 1, "and as nothing else");
    }
}
