//! The queue by itself, over reads that end when the test says so.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::*;

type Answer = Result<Option<u32>>;

/// Reads that tell of themselves and then wait to be let go. There is no row of an odd key; that of 100 can't be read, with 66 comes
/// an error for all who came along, and 13 panics.
struct Held {
    points: Arc<Points<u32, u32>>,
    begun: mpsc::UnboundedReceiver<Vec<u32>>,
    go: Arc<Semaphore>,
}

impl Held {
    fn new() -> Self {
        let (begins, begun) = mpsc::unbounded_channel();
        let go = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&go);
        let points = Points::new(Duration::from_secs(5), move |keys: Arc<[u32]>, _| {
            let (begins, held) = (begins.clone(), Arc::clone(&held));
            Box::pin(async move {
                begins.send(keys.to_vec()).unwrap();
                held.acquire().await.unwrap().forget();
                assert!(!keys.contains(&13), "thirteen");
                if keys.contains(&66) {
                    return Err(Error::new(ErrorKind::Corrupt, "a page is damaged"));
                }
                if keys.contains(&77) {
                    return Err(Error::new(ErrorKind::Unavailable, "it went away"));
                }
                let even = keys.iter().filter(|key| **key % 2 == 0);
                Ok(even.map(|key| (*key, row(*key))).collect())
            })
        });
        Self { points, begun, go }
    }

    fn get(&self, key: u32) -> JoinHandle<Answer> {
        let points = Arc::clone(&self.points);
        tokio::spawn(async move { points.get(key).await })
    }

    /// Calls that are sent at once, each alone.
    async fn few(&mut self) -> Vec<JoinHandle<Answer>> {
        let mut calls = Vec::new();
        for key in 0..u32::try_from(FEW).unwrap() {
            calls.push(self.get(key));
            assert_eq!(self.begun.recv().await, Some(vec![key]));
        }
        calls
    }

    /// Calls that wait, in this order.
    async fn wait(&self, keys: impl IntoIterator<Item = u32>) -> Vec<JoinHandle<Answer>> {
        let mut calls = Vec::new();
        for key in keys {
            let before = self.points.waiting().calls.len();
            calls.push(self.get(key));
            while self.points.waiting().calls.len() == before {
                tokio::task::yield_now().await;
            }
        }
        calls
    }
}

fn row(key: u32) -> Result<u32> {
    if key == 100 {
        return Err(Error::new(ErrorKind::SchemaMismatch, "its state is unknown"));
    }
    Ok(key * 10)
}

async fn kinds(calls: Vec<JoinHandle<Answer>>) -> Vec<Result<Option<u32>, ErrorKind>> {
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap().map_err(|error| error.kind()));
    }
    answers
}

#[tokio::test(start_paused = true)]
async fn a_few_go_alone_and_who_waits_goes_together_once_for_each_key() {
    let mut held = Held::new();
    let few = held.few().await;
    let waits = held.wait([8, 100, 9, 8, 6]).await;
    held.go.add_permits(1);
    assert_eq!(
        held.begun.recv().await,
        Some(vec![6, 8, 9, 100]),
        "each key once, in order"
    );
    held.go.add_permits(FEW);
    assert_eq!(kinds(few).await, [Ok(Some(0)), Ok(None), Ok(Some(20)), Ok(None)]);
    let unread = Err(ErrorKind::SchemaMismatch);
    assert_eq!(
        kinds(waits).await,
        [Ok(Some(80)), unread, Ok(None), Ok(Some(80)), Ok(Some(60))]
    );
    held.points.idle().await;
    let alone = held.get(2);
    assert_eq!(held.begun.recv().await, Some(vec![2]));
    held.go.add_permits(1);
    assert_eq!(alone.await.unwrap().unwrap(), Some(20));
}

#[tokio::test(start_paused = true)]
async fn who_is_held_up_by_those_in_the_air_is_not_for_long() {
    let mut held = Held::new();
    let few = held.few().await;
    let waits = held.wait([4, 6]).await;
    let since = Instant::now();
    assert_eq!(held.begun.recv().await, Some(vec![4, 6]));
    assert_eq!(since.elapsed(), HELD_UP);
    held.go.add_permits(FEW + 1);
    kinds(few).await;
    assert_eq!(kinds(waits).await, [Ok(Some(40)), Ok(Some(60))]);
}

#[tokio::test(start_paused = true)]
async fn a_whole_batch_waits_for_nobody() {
    let mut held = Held::new();
    let few = held.few().await;
    let since = Instant::now();
    let mut waits = held.wait((200..).take(BATCH - 1)).await;
    waits.push(held.get(300));
    let begun = held.begun.recv().await.unwrap();
    assert_eq!((begun.len(), since.elapsed()), (BATCH, Duration::ZERO));
    held.go.add_permits(FEW + 1);
    kinds(few).await;
    assert!(kinds(waits).await.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_may_be_of_one_row_is_asked_of_each() {
    let mut held = Held::new();
    let few = held.few().await;
    let waits = held.wait([64, 66, 68]).await;
    held.go.add_permits(FEW + 4);
    kinds(few).await;
    assert_eq!(
        kinds(waits).await,
        [Ok(Some(640)), Err(ErrorKind::Corrupt), Ok(Some(680))]
    );
    let together = held.begun.recv().await;
    assert_eq!(together, Some(vec![64, 66, 68]));
}

#[tokio::test(start_paused = true)]
async fn who_has_no_time_left_is_not_asked_for_again() {
    let mut held = Held::new();
    let few = held.few().await;
    let waits = held.wait([64, 66]).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    held.go.add_permits(FEW + 1);
    kinds(few).await;
    assert_eq!(kinds(waits).await, [const { Err(ErrorKind::Corrupt) }; 2]);
    assert_eq!(held.begun.recv().await, Some(vec![64, 66]));
    held.points.idle().await;
    assert!(held.begun.try_recv().is_err(), "nothing more was sent");
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_told_to_all_and_asked_once() {
    let mut held = Held::new();
    let few = held.few().await;
    let waits = held.wait([76, 77, 78]).await;
    held.go.add_permits(FEW + 1);
    kinds(few).await;
    assert_eq!(kinds(waits).await, [const { Err(ErrorKind::Unavailable) }; 3]);
    assert_eq!(held.begun.recv().await, Some(vec![76, 77, 78]));
    held.points.idle().await;
    assert!(held.begun.try_recv().is_err(), "nothing more was sent");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_of_those_that_it_concerns() {
    let mut held = Held::new();
    let few = held.few().await;
    let waits = held.wait([12, 13]).await;
    held.go.add_permits(FEW + 3);
    kinds(few).await;
    assert_eq!(held.begun.recv().await, Some(vec![12, 13]));
    assert_eq!(
        kinds(waits).await,
        [Ok(Some(120)), Err(ErrorKind::OutcomeUnknown)]
    );
    held.points.idle().await;
    let after = held.get(14);
    held.go.add_permits(1);
    assert_eq!(after.await.unwrap().unwrap(), Some(140));
}

#[tokio::test(start_paused = true)]
async fn who_went_away_is_not_asked_for_and_idle_waits_for_the_rest() {
    let mut held = Held::new();
    let few = held.few().await;
    let gone = held.wait([4]).await;
    let stays = held.wait([6]).await;
    gone.iter().for_each(JoinHandle::abort);
    for call in gone {
        assert!(call.await.unwrap_err().is_cancelled());
    }
    let points = Arc::clone(&held.points);
    let mut idle = tokio::spawn(async move { points.idle().await });
    held.go.add_permits(FEW);
    assert_eq!(held.begun.recv().await, Some(vec![6]));
    kinds(few).await;
    assert!(
        timeout(Duration::from_secs(60), &mut idle).await.is_err(),
        "one is in the air"
    );
    held.go.add_permits(1);
    assert_eq!(kinds(stays).await, [Ok(Some(60))]);
    idle.await.unwrap();
}
