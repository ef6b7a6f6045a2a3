//! The file of the spool: what is told is there, whatever happens to it.

mod files;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use persist_core::{Claim, Entry, Error, ErrorKind, JobState, Outbox as _, Result, VmState, jsonl};
use rusqlite::Connection;
use tempfile::TempDir;
use uuid::Uuid;

use super::table::OVERHEAD;
use super::{OutboxConfig, SqliteOutbox, Way};
use crate::tests::{PATIENCE, at, claim, deadlines, job, vm};

/// A folder with room for one spool.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("spool.db")
    }

    fn config(&self) -> OutboxConfig {
        OutboxConfig::new(self.path()).deadlines(deadlines())
    }

    async fn open(&self) -> SqliteOutbox {
        SqliteOutbox::open(self.config()).await.unwrap()
    }
}

fn numbered(number: u128) -> Vec<Claim> {
    vec![claim(job(number, JobState::Queued, 1))]
}

/// What an update takes of the room.
fn bytes(claims: &[Claim]) -> u64 {
    claims
        .iter()
        .map(|claim| jsonl::claim_line(claim).len() as u64 + OVERHEAD)
        .sum()
}

/// Of both kinds, with all that they can say, and with what JSON has to escape.
fn odd_updates() -> Vec<Claim> {
    let odd = "a\"b\\c\n\u{1b}\u{7f}\u{2028}é🦀'; --";
    let full = job(1, JobState::TimedOut, 9)
        .attempt(2_147_483_647)
        .at(at(9) + Duration::from_micros(123_456))
        .repo_url(format!("https://example.org/{odd}?ref=x"))
        .commit_sha("3F2A9C")
        .runs_on(odd)
        .actor(odd)
        .reason(odd.repeat(100));
    let machine = vm(2, VmState::Destroyed, 3)
        .backend(odd)
        .overlay_path(odd.repeat(100))
        .seed_path("\u{1}".repeat(4_096));
    vec![claim(full), claim(machine), claim(job(3, JobState::Queued, 0))]
}

async fn all(outbox: &SqliteOutbox) -> Vec<Entry> {
    outbox.waiting(0, 100_000).await.unwrap()
}

/// What it counts is what a fresh look counts.
async fn counted(place: &Place, outbox: &SqliteOutbox) {
    let (looked, _) = SqliteOutbox::look(place.path()).await.unwrap();
    let mut held = outbox.status();
    held.max_bytes = None;
    assert_eq!(looked.status(), held);
    looked.close().await;
}

#[tokio::test]
async fn what_is_kept_comes_back_equal_and_in_order() {
    let place = Place::new();
    let outbox = place.open().await;
    let claims = odd_updates();
    outbox.push(&claims, at(7)).await.unwrap();
    outbox.push(&[], at(7)).await.unwrap();
    outbox.close().await;
    assert_eq!(
        outbox.push(&claims, at(7)).await.unwrap_err().kind(),
        ErrorKind::Closed
    );
    drop(outbox);
    let outbox = place.open().await;
    let entries = all(&outbox).await;
    let read: Vec<_> = entries.iter().map(|entry| entry.claim().unwrap()).collect();
    assert_eq!(read, claims);
    assert!(entries.is_sorted_by_key(|entry| entry.seq) && entries[0].created_at == at(7));
    let status = outbox.status();
    assert_eq!((status.waiting, status.dead), (claims.len() as u64, 0));
    assert_eq!((status.bytes, status.oldest), (bytes(&claims), Some(at(7))));
    // Pages: two, then what is behind them.
    let page = outbox.waiting(0, 2).await.unwrap();
    assert_eq!(page, entries[..2]);
    let rest = outbox.waiting(page[1].seq, 100).await.unwrap();
    assert_eq!(rest, entries[2..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_share_commits() {
    let place = Place::new();
    let outbox = Arc::new(place.open().await);
    let pushes: Vec<_> = (1..=2_000)
        .map(|number| {
            let outbox = Arc::clone(&outbox);
            tokio::spawn(async move { outbox.push(&numbered(number), at(number as i64)).await })
        })
        .collect();
    for push in pushes {
        push.await.unwrap().unwrap();
    }
    let Way::Owning(worker) = &outbox.way else {
        panic!("it is open to write")
    };
    let (flushes, updates) = worker.flushed();
    assert_eq!(updates, 2_000);
    assert!(flushes < 1_000, "{flushes} commits");
    assert_eq!(all(&outbox).await.len(), 2_000);
    counted(&place, &outbox).await;
}

#[tokio::test]
async fn what_the_database_has_goes_and_what_it_refuses_is_put_aside() {
    let place = Place::new();
    let outbox = place.open().await;
    for number in 1..=5 {
        outbox.push(&numbered(number), at(number as i64)).await.unwrap();
    }
    let seqs: Vec<_> = all(&outbox).await.iter().map(|entry| entry.seq).collect();
    let error = Error::new(ErrorKind::Unavailable, "is away");
    outbox.failed(&seqs[..2], &error).await.unwrap();
    outbox.failed(&seqs[..1], &error).await.unwrap();
    outbox.done(&[seqs[1], seqs[4], 12_345]).await.unwrap();
    assert_eq!(outbox.status().oldest, Some(at(1)));
    let poison = Error::invalid("actor", "the database refuses it");
    outbox.bury(seqs[0], &poison).await.unwrap();
    outbox.bury(seqs[0], &poison).await.unwrap();
    let status = outbox.status();
    assert_eq!((status.waiting, status.dead, status.oldest), (2, 1, Some(at(3))));
    counted(&place, &outbox).await;
    outbox.close().await;
    drop(outbox);
    let outbox = place.open().await;
    let dead = outbox.dead(0, 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].seq, dead[0].attempts), (1, seqs[0], 3));
    let told = dead[0].last_error.as_deref();
    assert_eq!(told, Some("invalid_input: actor: the database refuses it"));
    assert_eq!(dead[0].claim().unwrap(), numbered(1)[0]);
    assert_eq!(outbox.discard_dead().await.unwrap(), 1);
    outbox.done(&seqs).await.unwrap();
    let status = outbox.status();
    assert_eq!(
        (status.waiting, status.dead, status.bytes, status.oldest),
        (0, 0, 0, None)
    );
    // A number is never used again: what is put aside keeps its own.
    outbox.push(&numbered(6), at(6)).await.unwrap();
    assert!(all(&outbox).await[0].seq > seqs[4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn r7_it_is_bounded_by_bytes_whoever_comes_at_once() {
    let place = Place::new();
    let each = bytes(&numbered(100));
    let outbox = SqliteOutbox::open(place.config().max_bytes(each * 20))
        .await
        .unwrap();
    let outbox = Arc::new(outbox);
    let pushes: Vec<_> = (100..200)
        .map(|number| {
            let outbox = Arc::clone(&outbox);
            tokio::spawn(async move { outbox.push(&numbered(number), at(1)).await })
        })
        .collect();
    let (mut kept, mut full) = (0, 0);
    for push in pushes {
        match push.await.unwrap() {
            Ok(()) => kept += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Full);
                assert!(error.to_string().contains("updates wait"));
                full += 1;
            }
        }
    }
    assert_eq!((kept, full), (20, 80));
    assert_eq!(outbox.status().bytes, each * 20);
    let first = all(&outbox).await[0].seq;
    outbox.bury(first, &Error::invalid("actor", "no")).await.unwrap();
    let error = outbox.push(&numbered(300), at(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "what was put aside takes room too");
    outbox.done(&[first + 1]).await.unwrap();
    outbox.push(&numbered(300), at(1)).await.unwrap();
    counted(&place, &outbox).await;
}

#[tokio::test]
async fn d11_a_full_disk_is_told_and_what_was_told_is_there() {
    let place = Place::new();
    let outbox = place.open().await;
    outbox.push(&numbered(1), at(1)).await.unwrap();
    outbox.pragma("max_page_count", 12).await.unwrap();
    let mut kept = 1;
    let error = loop {
        let many: Vec<_> = (0..20).flat_map(|n| numbered(1_000 + kept + n)).collect();
        match outbox.push(&many, at(2)).await {
            Ok(()) => kept += 20,
            Err(error) => break error,
        }
        assert!(kept < 10_000, "the disk is not full");
    };
    assert_eq!(error.kind(), ErrorKind::Full);
    assert_eq!(all(&outbox).await.len() as u128, kept);
    counted(&place, &outbox).await;
    // What the database has makes room.
    let seqs: Vec<_> = all(&outbox).await.iter().map(|entry| entry.seq).collect();
    outbox.done(&seqs).await.unwrap();
    outbox.push(&numbered(2), at(3)).await.unwrap();
    let claims: Vec<_> = all(&outbox)
        .await
        .iter()
        .map(|entry| entry.claim().unwrap())
        .collect();
    assert_eq!(claims, numbered(2));
    counted(&place, &outbox).await;
    let outside = Connection::open(place.path()).unwrap();
    let check: String = outside
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
}

#[tokio::test]
async fn m12_it_belongs_to_the_database_that_it_met_first() {
    let (place, one, other) = (Place::new(), Uuid::from_u128(1), Uuid::from_u128(2));
    let outbox = place.open().await;
    outbox.push(&numbered(1), at(1)).await.unwrap();
    outbox.bind(one).await.unwrap();
    outbox.bind(one).await.unwrap();
    outbox.close().await;
    drop(outbox);
    let outbox = place.open().await;
    assert_eq!(outbox.status().bound_to, Some(one));
    let error = outbox.bind(other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let told = (error.context("bound_to"), error.context("instance_id"));
    assert_eq!(told, (Some(&*one.to_string()), Some(&*other.to_string())));
    assert_eq!(outbox.status().bound_to, Some(one));
    let seq = all(&outbox).await[0].seq;
    outbox.done(&[seq]).await.unwrap();
    outbox.bind(other).await.unwrap();
    assert_eq!(
        outbox.status().bound_to,
        Some(other),
        "nothing waits for the first one"
    );
    counted(&place, &outbox).await;
}

#[tokio::test]
async fn one_process_has_it_and_a_second_is_told_which() {
    let place = Place::new();
    let outbox = place.open().await;
    let error = SqliteOutbox::open(place.config()).await.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Busy, "{text}");
    let me = format!("process {}", std::process::id());
    assert!(text.contains(&me) && text.contains("spool.db"), "{text}");
    outbox.push(&numbered(1), at(1)).await.unwrap();
    let (looked, holder) = SqliteOutbox::look(place.path()).await.unwrap();
    assert!(holder.is_some_and(|holder| holder.contains(&me)));
    assert_eq!(all(&looked).await.len(), 1);
    assert_eq!(
        looked.push(&numbered(2), at(1)).await.unwrap_err().kind(),
        ErrorKind::ReadOnly
    );
    assert_eq!(looked.done(&[1]).await.unwrap_err().kind(), ErrorKind::ReadOnly);
    outbox.close().await;
    drop(outbox);
    // Who looks does not have it.
    let outbox = place.open().await;
    assert_eq!(all(&outbox).await.len(), 1);
    drop((outbox, looked));
    // The lock goes with the thread, a moment after its handle.
    let again = place.open().await;
    again.close().await;
    drop(again);
    let (_, holder) = SqliteOutbox::look(place.path()).await.unwrap();
    assert_eq!(holder, None);
}

#[tokio::test]
async fn a_push_that_is_dropped_gives_its_room_back_or_is_kept() -> Result<()> {
    let place = Place::new();
    let each = bytes(&numbered(100));
    let outbox = SqliteOutbox::open(place.config().max_bytes(each * 3)).await?;
    for number in 100..103 {
        let claims = numbered(number);
        let push = outbox.push(&claims, at(1));
        // Polled once, and dropped.
        let _ = tokio::time::timeout(Duration::ZERO, push).await;
    }
    // Behind all of them in the queue.
    let kept = all(&outbox).await.len() as u64;
    assert_eq!(outbox.status().bytes, kept * each);
    for number in 200..(203 - u128::from(kept)) {
        tokio::time::timeout(PATIENCE, outbox.push(&numbered(number), at(1)))
            .await
            .expect("there is room")?;
    }
    assert_eq!(all(&outbox).await.len(), 3);
    Ok(())
}
