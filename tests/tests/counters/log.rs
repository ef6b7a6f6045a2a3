//! What updates cost the server's pages.

use persist_tests::place::{Database, Place};
use persist_tests::process;

use crate::load::{lives, opened};

/// Updates that end nothing stay on their page: no index is touched.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_updates_rows_in_place() {
    let place = Place::empty(Database::Postgres);
    let persist = opened(&place).await;
    let updates = lives(&persist).await as f64;
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
