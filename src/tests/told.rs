//! What others are told: who watches the mode, who reads the log, who asks for health.

use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;
use persist_memory::MemoryBackend;
use tokio::time::Instant;

use super::flaky::{Opener, connect, queued, start, until, until_ready};
use super::held::{BYTES, HeldOutbox, spool};
use crate::*;

/// The lines of a log.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Vec<String>>>);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().push(String::from_utf8_lossy(line).into_owned());
        Ok(line.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Those of this thread, until the guard goes.
    pub(super) fn read() -> (Self, tracing::subscriber::DefaultGuard) {
        // With one subscriber alone, who first comes by a line of the program decides for all threads whether it is wanted:
        // a test that reads none would silence it here.
        static ANOTHER: LazyLock<tracing::Dispatch> = LazyLock::new(|| tracing_subscriber::registry().into());
        LazyLock::force(&ANOTHER);
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .without_time()
            .with_writer(move || writer.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    pub(super) fn of(&self, level: &str, what: &str) -> Vec<String> {
        let lines = self.0.lock();
        let is_meant = |line: &&String| line.trim_start().starts_with(level) && line.contains(what);
        lines.iter().filter(is_meant).cloned().collect()
    }

    /// Lines that are loud, and those that were held back before the last of them, as they say and as they were.
    fn held_back(&self, loud: &str, what: &str) -> (usize, u64, u64) {
        let said = self.of(loud, what);
        let sum = said.iter().map(|line| {
            let (_, count) = line.split_once("held_back=").expect("it says how many");
            let end = count.find(|c: char| !c.is_ascii_digit()).unwrap_or(count.len());
            count[..end].parse::<u64>().expect("a number")
        });
        let sum = sum.sum();
        let (mut quiet, mut before_last) = (0, 0);
        for line in self.0.lock().iter().filter(|line| line.contains(what)) {
            match line.trim_start().starts_with(loud) {
                true => before_last = quiet,
                false => quiet += 1,
            }
        }
        (said.len(), sum, before_last)
    }
}

#[tokio::test(start_paused = true)]
async fn r5_an_hour_without_a_database_is_a_line_a_minute_that_counts_the_others() {
    let (lines, _guard) = Lines::read();
    let (persist, _failure) = start("hour", OnUnavailable::BestEffort, Some(ErrorKind::Unavailable)).await;
    let persist = persist.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3_600) {
        persist.record_job_state(queued(1)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (said, counted, held_back) = lines.held_back("ERROR", "the database is");
    assert!((30..=61).contains(&said), "{said} lines in an hour");
    assert_eq!(counted, held_back, "each line tells how many it stands for");
    assert!(held_back > 0, "the first tries come quickly");
    let loud: Vec<_> = ["ERROR", "WARN", "INFO"]
        .iter()
        .flat_map(|level| lines.of(level, ""))
        .collect();
    assert_eq!(loud.len(), said, "and nothing else is loud: {loud:#?}");
    let last = lines.of("ERROR", "dropped=").pop().unwrap();
    assert!(last.contains("dropped=3"), "about 36,000 of them: {last}");
}

#[tokio::test(start_paused = true)]
async fn r5_a_store_that_comes_and_goes_is_a_line_a_minute_too() {
    let (lines, _guard) = Lines::read();
    let open = Opener::new("comes and goes");
    let failure = Arc::clone(&open.failure);
    let persist = connect(open, OnUnavailable::BestEffort).await.unwrap();
    // It answers its probe, and refuses each write.
    *failure.lock() = Some(ErrorKind::Full);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3_600) {
        persist.record_job_state(queued(1)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (said, counted, held_back) = lines.held_back("ERROR", "the database is away");
    assert!((30..=61).contains(&said), "{said} lines in an hour");
    assert_eq!(counted, held_back);
    let on = lines.of("INFO", "persistence is on").len();
    assert!((1..=said).contains(&on), "{on} times on, {said} times away");
    assert!(
        !lines.of("DEBUG", "persistence is on").is_empty(),
        "the others are there for who looks closely"
    );
}

#[tokio::test(start_paused = true)]
async fn r5_a_start_that_waits_is_a_line_a_minute() {
    let (lines, _guard) = Lines::read();
    let within = Duration::from_secs(600);
    let (result, _) = start(
        "waits",
        OnUnavailable::Retry { within },
        Some(ErrorKind::Unavailable),
    )
    .await;
    result.unwrap_err();
    let (said, counted, held_back) = lines.held_back("WARN", "waiting for it");
    assert!((5..=10).contains(&said), "{said} lines in ten minutes");
    assert_eq!(counted, held_back);
    assert!(held_back > 0);
}

#[tokio::test(start_paused = true)]
async fn r7_what_waits_in_a_spool_for_too_long_and_what_finds_no_room_are_a_loud_line_a_minute() {
    let (lines, _guard) = Lines::read();
    let outbox = HeldOutbox::bounded(3 * BYTES);
    let open = Opener::new("spool ages");
    let failure = Arc::clone(&open.failure);
    *failure.lock() = Some(ErrorKind::Unavailable);
    let persist = spool(open, &outbox, WhenFull::Fail).await.unwrap();
    for number in 1..=3 {
        persist.record_job_state(queued(number)).await.unwrap();
    }
    let alarms = || lines.of("ERROR", "wait in the spool for too long");
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert!(alarms().is_empty(), "{:?}", alarms());
    tokio::time::sleep(Duration::from_secs(600)).await;
    let told = alarms();
    assert!(
        (5..=11).contains(&told.len()),
        "{} lines in ten minutes",
        told.len()
    );
    let last = told.last().unwrap();
    assert!(
        last.contains("waiting=3") && last.contains("max_age_s=60"),
        "{last}"
    );
    for _ in 0..100 {
        let error = persist.record_job_state(queued(4)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full);
    }
    let rejections = |level| lines.of(level, "the spool can't take updates").len();
    assert_eq!((rejections("ERROR"), rejections("DEBUG")), (1, 99));
    *failure.lock() = None;
    until("it is emptied", async || outbox.status().waiting == 0).await;
    let told = alarms().len();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(alarms().len(), told, "nothing waits any more");
}

#[tokio::test(start_paused = true)]
async fn whoever_watches_the_mode_sees_it_change_until_close() {
    let (persist, failure) = start("watched", OnUnavailable::BestEffort, None).await;
    let persist = persist.unwrap();
    let mut modes = persist.mode_changes();
    let seen = tokio::spawn(async move {
        let mut seen = vec![*modes.borrow_and_update()];
        while modes.changed().await.is_ok() {
            seen.push(*modes.borrow_and_update());
        }
        seen
    });
    tokio::task::yield_now().await;
    *failure.lock() = Some(ErrorKind::Unavailable);
    persist.record_job_state(queued(1)).await.unwrap();
    let mut away = persist.mode_changes();
    assert_eq!(*away.borrow(), Mode::Degraded);
    tokio::task::yield_now().await;
    *failure.lock() = None;
    away.wait_for(|mode| *mode == Mode::Ready).await.unwrap();
    until_ready(&persist).await;
    tokio::task::yield_now().await;
    persist.close().await.unwrap();
    assert_eq!(
        seen.await.unwrap(),
        [Mode::Ready, Mode::Degraded, Mode::Ready, Mode::Closed]
    );
    assert_eq!(
        *persist.mode_changes().borrow(),
        Mode::Closed,
        "also for who comes later"
    );
    persist.mode_changes().changed().await.unwrap_err();
}

#[tokio::test]
async fn a_handle_that_is_dropped_ends_the_watching_too() {
    let persist = Persist::builder(Some("memory:".into())).connect().await.unwrap();
    let mut modes = persist.mode_changes();
    drop(persist);
    modes.changed().await.unwrap_err();
    assert_eq!(*modes.borrow(), Mode::Ready);
}

#[tokio::test]
async fn health_tells_the_last_error_also_where_callers_see_them() {
    for policy in [OnUnavailable::Fail, OnUnavailable::BestEffort] {
        let (persist, failure) = start("last error", policy, None).await;
        let persist = persist.unwrap();
        assert_eq!(persist.health().await.unwrap().last_error, None);
        *failure.lock() = Some(ErrorKind::Timeout);
        persist.job(uuid::Uuid::from_u128(1)).await.unwrap_err();
        *failure.lock() = None;
        let health = persist.health().await.unwrap();
        assert_eq!(
            (health.mode, health.last_error.as_deref()),
            (Mode::Ready, Some("timeout"))
        );
        assert!(health.since.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn closing_ends_by_its_deadline_and_goes_on() {
    let open = Opener::new("never ends");
    let held = Arc::clone(&open.held);
    let persist = connect(open, OnUnavailable::Fail).await.unwrap();
    let (end, ended) = tokio::sync::oneshot::channel();
    held.lock().push(ended);
    let begun = Instant::now();
    for _ in 0..2 {
        assert_eq!(persist.close().await.unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert_eq!(begun.elapsed(), Deadlines::default().close() * 2);
    assert_eq!(*persist.mode_changes().borrow(), Mode::Closed);
    end.send(ErrorKind::Closed).unwrap();
    persist.close().await.unwrap();
}

#[tokio::test]
async fn a_backend_of_ones_own_has_the_facade_over_it() {
    for policy in [
        OnUnavailable::default(),
        OnUnavailable::Fail,
        OnUnavailable::BestEffort,
    ] {
        let mine = Arc::new(MemoryBackend::new());
        let persist = Persist::builder_over(Arc::clone(&mine) as Arc<dyn PersistBackend>)
            .actor("me")
            .on_unavailable(policy)
            .connect()
            .await
            .unwrap();
        assert!(persist.is_enabled());
        assert_eq!(persist.health().await.unwrap().backend, "memory");
        persist.record_job_state(queued(1)).await.unwrap();
        let events = mine.events(&EventQuery::default()).await.unwrap();
        assert_eq!(events.items[0].actor.as_deref(), Some("me"));
        persist.close().await.unwrap();
        assert_eq!(
            mine.health().await.unwrap_err().kind(),
            ErrorKind::Closed,
            "it is closed with it"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_is_a_line_in_ten_seconds_without_a_value() {
    let (lines, _guard) = Lines::read();
    let mine: Arc<dyn PersistBackend> = Arc::new(MemoryBackend::new());
    let persist = Persist::builder_over(mine)
        .slow_after(Duration::ZERO)
        .connect()
        .await
        .unwrap();
    // Under a paused clock nothing takes time, and nothing is slow.
    persist.record_job_state(queued(1)).await.unwrap();
    assert_eq!(lines.of("WARN", "slow"), Vec::<String>::new());
    let slow = Opener::new("slow");
    let held = Arc::clone(&slow.held);
    let persist = connect(slow, OnUnavailable::Fail).await.unwrap();
    let begun = Instant::now();
    for _ in 0..15 {
        let (end, ended) = tokio::sync::oneshot::channel();
        held.lock().push(ended);
        let update = queued(1)
            .repo_url("https://example.org/hunter2")
            .reason("hunter2");
        let call = tokio::spawn({
            let persist = persist.clone();
            async move { persist.record_job_state(update).await }
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        end.send(ErrorKind::Busy).unwrap();
        call.await.unwrap().unwrap_err();
    }
    assert_eq!(begun.elapsed(), Duration::from_secs(30));
    let said = lines.of("WARN", "a slow operation");
    assert_eq!(said.len(), 3, "{said:#?}");
    assert!(
        said[0].contains("operation=\"apply\"") && said[0].contains("took_ms=2000"),
        "{}",
        said[0]
    );
    assert!(
        said[1].contains("outcome=\"busy\"") && said[1].contains("held_back=4"),
        "{}",
        said[1]
    );
    let all = lines.of("", "").concat();
    assert!(!all.contains("hunter2"), "{all}");
}
