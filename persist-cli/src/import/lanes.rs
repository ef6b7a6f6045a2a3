//! Applies what was read, several chunks at a time, and keeps the order where it tells.
//!
//! Claims of one job and its VMs always go through the same lane, and a lane applies one chunk after the other:
//! each subject's outcomes are those of a single writer. What was read becomes blocks; a block is told when all
//! lanes are done with it, so outcomes come in the order of the input.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use persist::{CHUNK, Claim, Error, ErrorKind, Outcome, PersistBackend, Result};
use tokio::sync::{mpsc, oneshot};

use crate::import::reader::{Bad, Item};
use crate::signals::Stop;

/// A server merges several chunks at once; a writer of a file takes those that wait into one commit: 60,000 lines
/// cost 112 fsyncs through four lanes and 156 through one (2026-11).
const LANES: usize = 16;
/// Lines of a block for each lane: below a chunk, because a hash does not deal them out evenly.
const SHARE: usize = CHUNK * 4 / 5;
/// Blocks that wait for their turn to be told.
const WAITING: usize = 1;

/// What a lane made of its claims: outcomes by position, or errors of single claims.
type Applied = Result<Vec<Result<Outcome>>>;

/// A run of the input, in order.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) rows: Vec<Row>,
    lanes: Vec<oneshot::Receiver<Applied>>,
}

/// An item whose claim is on its way.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) file: usize,
    pub(crate) number: u64,
    /// The lane whose next outcome is this row's.
    pub(crate) lane: Result<usize, Bad>,
}

/// What the lanes made of a block. A lane that failed gives no outcome but the first error that any had.
#[derive(Debug)]
pub(crate) struct Settled(Vec<std::vec::IntoIter<Result<Outcome>>>, Option<Error>);

impl Settled {
    /// The next outcome of a lane.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn next(&mut self, lane: usize) -> Result<Result<Outcome>> {
        let outcome = self.0.get_mut(lane).and_then(Iterator::next);
        outcome.ok_or_else(|| {
            self.1
                .take()
                .unwrap_or_else(|| Error::new(ErrorKind::Internal, "a line has no outcome").during("import"))
        })
    }
}

impl Block {
    /// Waits until all lanes are done with it.
    pub(crate) async fn settled(&mut self) -> Settled {
        let mut settled = Settled(Vec::new(), None);
        for lane in self.lanes.drain(..) {
            let broke = |_| Err(Error::new(ErrorKind::Internal, "applying broke off").during("import"));
            let outcomes = lane.await.unwrap_or_else(broke).unwrap_or_else(|error| {
                settled.1.get_or_insert(error);
                Vec::new()
            });
            settled.0.push(outcomes.into_iter());
        }
        settled
    }
}

struct Work {
    claims: Vec<Claim>,
    done: oneshot::Sender<Applied>,
}

/// Starts applying; blocks come in the order of the input. Ends after a signal with what was in flight.
pub(crate) fn start(
    backend: &Arc<dyn PersistBackend>,
    mut items: mpsc::Receiver<Item>,
    mut stop: Stop,
) -> mpsc::Receiver<Block> {
    let lanes: Vec<_> = (0..LANES).map(|_| lane(Arc::clone(backend))).collect();
    let (blocks, told) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        loop {
            // No timer: whatever was read while the blocks before were in flight goes into the next one.
            let mut read = Vec::with_capacity(LANES * SHARE);
            let more = tokio::select! {
                biased;
                Ok(_) = stop.wait_for(Option::is_some) => false,
                lines = items.recv_many(&mut read, LANES * SHARE) => lines > 0,
            };
            if !more || blocks.send(deal(read, &lanes).await).await.is_err() {
                return;
            }
        }
    });
    told
}

/// Gives each lane its claims of a block.
async fn deal(items: Vec<Item>, lanes: &[mpsc::Sender<Work>]) -> Block {
    let mut shares = vec![Vec::new(); lanes.len()];
    let rows = items
        .into_iter()
        .map(|Item { file, number, claim }| {
            let lane = claim.map(|claim| {
                let lane = lane_of(&claim, lanes.len());
                shares[lane].push(claim);
                lane
            });
            Row { file, number, lane }
        })
        .collect();
    let mut block = Block {
        rows,
        lanes: Vec::with_capacity(lanes.len()),
    };
    for (claims, lane) in shares.into_iter().zip(lanes) {
        let (done, outcomes) = oneshot::channel();
        // A lane that is gone drops `done`, and the block tells.
        let _ = lane.send(Work { claims, done }).await;
        block.lanes.push(outcomes);
    }
    block
}

fn lane_of(claim: &Claim, lanes: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    claim.subject().request_id().hash(&mut hasher);
    (hasher.finish() % lanes as u64) as usize
}

fn lane(backend: Arc<dyn PersistBackend>) -> mpsc::Sender<Work> {
    let (sender, mut work) = mpsc::channel::<Work>(WAITING);
    tokio::spawn(async move {
        while let Some(Work { claims, done }) = work.recv().await {
            let applied = apply(&*backend, &claims).await;
            let failed = applied.is_err();
            // Nobody waits any more after an error of another lane.
            let _ = done.send(applied);
            if failed {
                return;
            }
        }
    });
    sender
}

/// Applies claims in order. What the database refuses as invalid is halved until only its own line fails.
async fn apply(backend: &dyn PersistBackend, claims: &[Claim]) -> Applied {
    let mut outcomes = Vec::with_capacity(claims.len());
    let mut rest = vec![claims];
    while let Some(claims) = rest.pop() {
        match backend.apply(claims).await {
            Ok(told) => outcomes.extend(told.into_iter().map(Ok)),
            Err(error) if error.kind() == ErrorKind::InvalidInput => match claims {
                [_] => outcomes.push(Err(error)),
                _ => {
                    let (first, second) = claims.split_at(claims.len() / 2);
                    rest.extend([second, first]);
                }
            },
            Err(error) => return Err(error),
        }
    }
    Ok(outcomes)
}
