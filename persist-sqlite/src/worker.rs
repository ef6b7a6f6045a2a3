//! The thread that owns the connection that writes, and the queue before it.
//!
//! What is queued runs in the order in which it came, whoever still waits for it. Updates that wait together
//! are worked on together (`flush`); anything else runs by itself.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use persist_core::layer::{Counts, Ticket};
use persist_core::{Error, ErrorKind, Result, UpdateOutcome};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout_at;

use crate::connection::{Role, Source};
use crate::error::{self, Failed, Phase};
use crate::flush::{self, Batch, Work};
use crate::session::{Session, end_of};

/// Updates of one transaction, from which on no more callers are taken in: what a commit costs is then little
/// beside them, and others get the lock of the file some dozen times a second.
pub(crate) const FLUSH: usize = 4_096;
/// Most updates that wait.
const QUEUE: usize = 16_384;
/// When nothing came for so long, the log is moved into the file.
const IDLE: Duration = Duration::from_secs(1);
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(10);

/// The end of the queue where callers stand.
pub(crate) struct Worker<W: Work> {
    queue: Sender<Job<W>>,
    room: Arc<Semaphore>,
    counts: Arc<Counts>,
}

type Call<W> = Box<dyn FnOnce(&mut Writer<W>) + Send>;

/// What the thread does.
enum Job<W: Work> {
    /// Updates, with others if others wait.
    Flush(Batch<W>),
    /// Runs by itself.
    Run(Call<W>),
    /// Ends the thread.
    Close(oneshot::Sender<()>),
}

/// The times of a call that writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// The end of waiting for the lock of the file: a little before that of the call, so that the caller learns
    /// what it waited for.
    pub(crate) lock: Instant,
    /// The end of the call.
    pub(crate) end: Instant,
}

impl Times {
    pub(crate) fn within(deadline: Duration) -> Self {
        Self {
            lock: end_of(deadline.mul_f64(0.95)),
            end: end_of(deadline),
        }
    }
}

impl<W: Work> Worker<W> {
    /// Starts the thread, which opens its connection.
    ///
    /// # Errors
    /// As opening does.
    pub(crate) async fn start(source: Source, work: Arc<W>, deadline: Duration) -> Result<Self> {
        let times = Times::within(deadline);
        let counts = Arc::new(Counts::new(W::NAME));
        let counted = Arc::clone(&counts);
        let (queue, jobs) = channel();
        let (opened, answer) = oneshot::channel();
        let started = thread::Builder::new()
            .name("persist-sqlite".into())
            .spawn(move || {
                let mut writer = Writer::new(source, work, counted);
                let result = writer.open(times.lock);
                let is_open = result.is_ok();
                if opened.send(result).is_ok() && is_open {
                    run(writer, &jobs);
                }
            });
        started
            .map_err(|error| Error::new(ErrorKind::Busy, "no thread could be started").caused_by(error))?;
        match timeout_at(times.end.into(), answer).await {
            Ok(opened) => opened.unwrap_or_else(|_| Err(lost()))?,
            Err(_) => {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    "the file could not be opened in time",
                ));
            }
        }
        Ok(Self {
            queue,
            room: Arc::new(Semaphore::new(QUEUE)),
            counts,
        })
    }

    /// Works on at most [`FLUSH`] updates, in one transaction.
    pub(crate) async fn flush(&self, item: W::Item, times: Times) -> Result<W::Answer> {
        let since = Instant::now();
        let updates = W::updates(&item);
        let room = self.room_for(updates, times.end).await?;
        let queued = self.counts.meter().queued(updates);
        let (reply, answer) = oneshot::channel();
        let ticket = Ticket::default();
        let batch = Batch {
            item,
            ticket: ticket.clone(),
            since,
            lock: times.lock,
            reply,
            _room: room,
            _queued: queued,
        };
        self.queue.send(Job::Flush(batch)).map_err(|_| closed())?;
        answered(answer, &ticket, times.end).await
    }

    /// Runs work in a transaction of its own that has the lock from its beginning.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        times: Times,
        work: impl FnOnce(&rusqlite::Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T> {
        self.run(times.end, move |session| {
            session.write(times.lock, times.end, work)
        })
        .await
    }

    /// Runs work outside of a transaction.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        until: Instant,
        work: impl FnOnce(&rusqlite::Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T> {
        self.run(until, move |session| session.read(until, work)).await
    }

    /// Runs work on the connection as it is.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        until: Instant,
        work: impl FnOnce(&mut Session) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let room = self.room_for(1, until).await?;
        let (reply, answer) = oneshot::channel();
        let ticket = Ticket::default();
        let mine = ticket.clone();
        let job = move |writer: &mut Writer<W>| {
            let _room = room;
            if ticket.take() {
                // Nobody listens to a caller that went away.
                let _ = reply.send(writer.session().and_then(work));
            }
        };
        self.queue.send(Job::Run(Box::new(job))).map_err(|_| closed())?;
        answered(answer, &mine, until).await
    }

    /// Commits of updates since the start, and the updates in them.
    pub(crate) fn flushed(&self) -> (u64, u64) {
        self.counts.get()
    }

    async fn room_for(&self, updates: usize, until: Instant) -> Result<OwnedSemaphorePermit> {
        let many = u32::try_from(updates).unwrap_or(u32::MAX);
        match timeout_at(until.into(), Arc::clone(&self.room).acquire_many_owned(many)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(closed()),
            Err(_) => {
                let what = format!("the queue of the writer was full for too long: {QUEUE} updates wait");
                Err(Error::new(ErrorKind::Busy, what))
            }
        }
    }

    /// Lets what is queued finish, closes the connection, and ends the thread.
    pub(crate) async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.queue.send(Job::Close(reply)).is_ok() {
            // An error means that the thread has ended already.
            let _ = answer.await;
        }
        self.room.close();
    }
}

impl<W: Work> fmt::Debug for Worker<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("room", &self.room.available_permits())
            .finish_non_exhaustive()
    }
}

async fn answered<T>(answer: oneshot::Receiver<Result<T>>, ticket: &Ticket, until: Instant) -> Result<T> {
    match timeout_at(until.into(), answer).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) if ticket.withdraw() => Err(closed()),
        Ok(Err(_)) => Err(lost()),
        Err(_) if ticket.withdraw() => Err(Error::new(
            ErrorKind::Timeout,
            "its time ran out in the queue of the writer; withdrawn",
        )
        .outcome_as(UpdateOutcome::NotApplied)),
        Err(_) => Err(Error::new(ErrorKind::Timeout, "no answer in time")),
    }
}

/// The error of a store that was closed.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the backend was closed")
}

fn lost() -> Error {
    Error::new(
        ErrorKind::Internal,
        "the writer failed while it worked on this; it goes on",
    )
}

/// The connection that writes, opened again where something went wrong with it.
pub(crate) struct Writer<W> {
    source: Source,
    session: Option<Session>,
    pub(crate) work: Arc<W>,
    pub(crate) counts: Arc<Counts>,
}

impl<W: Work> Writer<W> {
    /// Without its connection yet.
    pub(crate) fn new(source: Source, work: Arc<W>, counts: Arc<Counts>) -> Self {
        Self {
            source,
            session: None,
            work,
            counts,
        }
    }

    /// The connection, in order.
    pub(crate) fn session(&mut self) -> Result<&mut Session> {
        // Without its connection a store in memory would be gone.
        if self.session.as_ref().is_some_and(|session| session.is_spoiled) && !self.source.is_memory() {
            self.session = None;
        }
        if self.session.is_none() {
            let opened = Session::open(&self.source, Role::Writer, Instant::now() + IDLE);
            self.session = Some(opened.map_err(|failed| failed.classified(Phase::Statement))?);
        }
        self.session.as_mut().ok_or_else(lost)
    }

    fn open(&mut self, until: Instant) -> Result<()> {
        loop {
            match Session::open(&self.source, Role::Writer, until) {
                Ok(session) => {
                    self.session = Some(session);
                    return Ok(());
                }
                // Several that set up one new file at once: SQLite gives up on some of these locks at once.
                Err(Failed::Driver(error)) if error::is_busy(&error) && Instant::now() < until => {
                    thread::park_timeout(BETWEEN_ATTEMPTS);
                }
                Err(failed) => return Err(failed.classified(Phase::Open)),
            }
        }
    }

    /// Moves the log into the file while nobody waits, so that fewer commits have to.
    fn checkpoint(&mut self) {
        if let Some(session) = &mut self.session
            && let Err(error) = session.connection.execute_batch("PRAGMA wal_checkpoint(PASSIVE)")
        {
            session.is_spoiled |= error::spoils_connection(&error);
        }
    }

    /// Runs a job. Should it panic, its callers hear of it by their channels, and the thread lives on.
    fn guarded(&mut self, job: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| job(self))).is_err() {
            tracing::error!("a job of the writer panicked; it was rolled back");
            if let Some(session) = &mut self.session {
                session.roll_back();
                session.is_spoiled = true;
            }
        }
    }
}

fn run<W: Work>(mut writer: Writer<W>, jobs: &Receiver<Job<W>>) {
    let mut is_idle = true;
    let mut held = None;
    loop {
        let job = match held.take() {
            Some(job) => job,
            None if is_idle => match jobs.recv() {
                Ok(job) => job,
                Err(_) => return,
            },
            None => match jobs.recv_timeout(IDLE) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => {
                    writer.checkpoint();
                    is_idle = true;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            },
        };
        is_idle = false;
        match job {
            Job::Flush(first) => {
                let (batches, next) = drain(first, jobs);
                held = next;
                writer.guarded(|writer| flush::flush(writer, batches));
            }
            Job::Run(work) => writer.guarded(work),
            Job::Close(reply) => {
                // Closes the connection, whatever it answers, and lets go of all else that the work holds.
                drop(writer);
                let _ = reply.send(());
                return;
            }
        }
    }
}

/// Whoever came while the last flush was at work goes into this one; nobody is waited for.
fn drain<W: Work>(first: Batch<W>, jobs: &Receiver<Job<W>>) -> (Vec<Batch<W>>, Option<Job<W>>) {
    let mut updates = W::updates(&first.item);
    let mut batches = vec![first];
    while updates < FLUSH {
        match jobs.try_recv() {
            Ok(Job::Flush(batch)) => {
                updates += W::updates(&batch.item);
                batches.push(batch);
            }
            Ok(other) => return (batches, Some(other)),
            Err(_) => break,
        }
    }
    (batches, None)
}
