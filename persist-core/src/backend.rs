//! The contract between the facade and whatever stores.

use std::fmt::Debug;

use async_trait::async_trait;
use uuid::Uuid;

use crate::changes::Changes;
use crate::claim::Claim;
use crate::error::Result;
use crate::event::{Event, EventQuery};
use crate::health::Health;
use crate::inspect::Inspect;
use crate::job::{Job, JobQuery};
use crate::ledger::Ledger;
use crate::marks::Marks;
use crate::outcome::Outcome;
use crate::owners::Owners;
use crate::page::Page;
use crate::prune::{Prune, Pruned};
use crate::schema::Schema;
use crate::subject::VmKey;
use crate::vm::{Vm, VmQuery};

/// A store of job states and VM life-cycle events.
///
/// The store is a join. A [`Claim`] claims the slot (subject, rank). A free slot is taken; a slot that holds
/// the same state has its blanks filled; a slot that holds another state refuses. The current row is derived:
/// state and attempt of the highest slot, each attribute from the highest slot that has one, `created_at` the
/// earliest and `updated_at` the latest `at`. Always, whatever came in and whoever was killed,
/// `current == fold(history)`.
///
/// Every implementation, and every layer over one, keeps these clauses. Each is a case of the conformance
/// suite (`persist_tests::run`).
///
/// 1. **Durable on `Ok`.** After `Ok` from [`apply`](Self::apply), a SIGKILL of the process or of the server
///    loses nothing. A store that can't promise that says so: `health().durable` is false.
/// 2. **An update is atomic**: its slot and its effect on the row commit together. A batch is not promised to
///    be: after an error any subset may stand, and sending it again is safe.
/// 3. **Position-true.** Outcomes are as if the batch were applied one by one, in order; after an internal
///    retry an update that had already been applied reads `Unchanged`. A batch may name a subject or a slot
///    many times, may be empty, and has any size: the backend chunks, the deadline counts per chunk.
/// 4. **Bounded.** Every call ends by its deadline ([`Deadlines`](crate::Deadlines)), also with the server
///    frozen.
/// 5. **Cancel-safe.** Dropping a future at any await leaves no open transaction, no half update and a usable
///    backend. The update may or may not have happened.
/// 6. **Read your writes** from the same handle. A read that could not read is an error, never an empty answer.
/// 7. **Use after close** is [`ErrorKind::Closed`](crate::ErrorKind::Closed), never a panic or a hang. `close`
///    is idempotent and lets what was accepted finish.
/// 8. **Same answers.** Order, limits, precision, pages, errors and outcomes are equal on all backends.
///
/// All methods but `name` fail with the kinds that [`ErrorKind`](crate::ErrorKind) lists; below are only the
/// errors that a correct call against a healthy store can meet.
///
/// ```
/// # use persist_core::{PersistBackend, JobUpdate, JobState, SystemClock, Outcome, Result};
/// # async fn example(backend: std::sync::Arc<dyn PersistBackend>, id: uuid::Uuid) -> Result<()> {
/// let claim = JobUpdate::new(id, JobState::Queued).check(&SystemClock)?;
/// let outcomes = backend.apply(&[claim]).await?;
/// assert_eq!(outcomes, [Outcome::Applied { created: true }]);
/// # Ok(()) }
/// ```
#[async_trait]
pub trait PersistBackend: Capabilities + Debug + Send + Sync + 'static {
    /// What it stores in: `postgres`, `sqlite`, `memory`. Layers answer for what they wrap.
    fn name(&self) -> &'static str;

    /// Merges a batch of claims and returns their outcomes by position, once they are durable.
    async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>>;

    /// The job of this id, or `None` if no update of it has come.
    async fn job(&self, id: Uuid) -> Result<Option<Job>>;

    /// The VM of this key, or `None` if no update of it has come.
    async fn vm(&self, key: &VmKey) -> Result<Option<Vm>>;

    /// A page of jobs. A walk along `next` sees every job that existed throughout, and whose `created_at` did
    /// not move, exactly once.
    ///
    /// # Errors
    /// `InvalidInput` as [`JobQuery::check`] says.
    async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>>;

    /// A page of VMs, as [`jobs`](Self::jobs).
    ///
    /// # Errors
    /// `InvalidInput` as [`VmQuery::check`] says.
    async fn vms(&self, query: &VmQuery) -> Result<Page<Vm>>;

    /// A page of the history.
    ///
    /// # Errors
    /// `InvalidInput` as [`EventQuery::check`] says.
    async fn events(&self, query: &EventQuery) -> Result<Page<Event>>;

    /// Removes whole request ids that match at the moment of their removal; a live one only if it is named.
    ///
    /// # Errors
    /// `InvalidInput` as [`Prune::check`] says.
    async fn prune(&self, request: &Prune) -> Result<Pruned>;

    /// Asks the store how it is. `Ok` means that it answered and that its schema can be used.
    async fn health(&self) -> Result<Health>;

    /// Refuses new calls, lets accepted ones finish, and lets go of every resource.
    async fn close(&self) -> Result<()>;
}

/// The optional powers of a backend. A layer passes on what the backend under it has.
pub trait Capabilities {
    /// The schema and its migrations; `None` for a store without any.
    fn schema(&self) -> Option<&dyn Schema>;

    /// What changed, to watch it; `None` for a store that has no order of changes.
    fn changes(&self) -> Option<&dyn Changes>;

    /// Heartbeats and orphans; `None` for a store that keeps none.
    fn owners(&self) -> Option<&dyn Owners>;

    /// What was refused; `None` for a store that keeps no account of it.
    fn ledger(&self) -> Option<&dyn Ledger>;

    /// What is not as it should be; `None` for a store in which nothing can be.
    fn inspect(&self) -> Option<&dyn Inspect>;

    /// Named texts that are kept beside the rows; `None` for a store that keeps none.
    fn marks(&self) -> Option<&dyn Marks>;
}
