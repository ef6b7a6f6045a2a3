//! What updates cost the server's log and its pages.

use persist_tests::cluster::{Cluster, Options};
use persist_tests::place::Place;
use persist_tests::process;

use crate::load::{lives, opened, queue};

/// Most bytes of write-ahead log for an update at 64 callers. 799 to 809 were seen (PostgreSQL 15, 2026-11-26); twice
/// as many would hide three more indexes.
const MOST_LOG: f64 = 1_000.0;

/// A server of its own, whose log nobody else writes and which logs rows only: the first touch of a page after a
/// checkpoint would log all of it, and how many checkpoints there are depends on the machine.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_logs_few_bytes_per_update() {
    let settings = Options::default()
        .setting("full_page_writes", "off")
        .setting("autovacuum", "off");
    let cluster = Cluster::start(&settings);
    let place = Place::at(cluster.fresh_schema_url());
    let persist = opened(&place).await;
    cluster.sql("CHECKPOINT").await;
    let written = async || {
        let texts = place
            .texts("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::text")
            .await;
        texts[0].parse::<f64>().unwrap()
    };
    let before = written().await;
    let updates = lives(&persist).await;
    let bytes = (written().await - before) / updates as f64;
    persist.close().await.unwrap();
    assert!(bytes <= MOST_LOG, "{bytes} bytes of log per update");
    // Slots with their keys are some 200 bytes alone: less would mean that the log is not counted.
    assert!(bytes > 100.0, "{bytes} bytes of log per update");
}

/// Updates that end nothing stay on their page: no index is touched. On a server of its own: what a row left behind
/// makes room on its page only when no older snapshot in the database may still see it, and other tests hold theirs.
/// The rows of a page all go on at once: with a fillfactor of 85 0.63 to 0.83 of them found room, with 60 0.97 to 1, with
/// 50 0.99 to 1 (8 runs of each; where each job goes on right after it was queued 0.81 to 0.97, 0.94 to 1 and 0.98 to 1).
#[tokio::test(flavor = "multi_thread")]
async fn postgres_updates_rows_in_place() {
    let cluster = Cluster::start(&Options::default());
    let place = Place::at(cluster.fresh_schema_url());
    let persist = opened(&place).await;
    let updates = queue(&persist).await as f64;
    persist.close().await.unwrap();
    // Of each three one makes the row, one ends the job, which moves it from an index to another.
    let (all_updates, that_end_nothing) = (updates / 3.0 * 2.0, updates / 3.0);
    // Of the connections that are closed now, the server has written down what they did.
    let read = format!(
        "SELECT n_tup_upd::text || ' ' || n_tup_hot_upd::text FROM pg_stat_user_tables \
         WHERE relname = 'jobs' AND schemaname = '{}'",
        place.schema()
    );
    let (mut updated, mut in_place) = (0.0, 0.0);
    process::until("all updates are counted", async || {
        let line = place.texts(&read).await.remove(0);
        let (all, hot) = line.split_once(' ').unwrap();
        (updated, in_place) = (all.parse::<f64>().unwrap(), hot.parse::<f64>().unwrap());
        updated >= all_updates
    })
    .await;
    assert!(
        in_place / that_end_nothing >= 0.9,
        "{in_place} of {that_end_nothing} in place"
    );
}
