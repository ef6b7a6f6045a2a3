//! Saying that this orchestrator is alive, for as long as it is.

use std::time::Duration;

use persist_core::layer::OncePer;
use persist_core::{Error, ErrorKind, Heartbeat, Mode, Owner, Owners, PersistBackend, Result};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::heal::BETWEEN_WARNINGS;
use crate::persist::Persist;

/// Beats in the background until it is dropped, or the handle is closed. Made by [`Persist::keep_alive`].
///
/// After it the name counts as alive until its last beat is too old.
#[derive(Debug)]
#[must_use = "dropped, it stops beating"]
pub struct Alive {
    told: watch::Receiver<Told>,
    /// None where persistence is off.
    beating: Option<JoinHandle<()>>,
}

/// What came of the beats so far.
#[derive(Debug, Clone, Default)]
struct Told {
    owner: Option<Owner>,
    is_taken_over: bool,
}

impl Alive {
    /// What the store said to the latest beat that it took; `None` before there was one.
    pub fn owner(&self) -> Option<Owner> {
        self.told.borrow().owner.clone()
    }

    /// Waits until the first beat stood, and says what the store said to the latest: `None` where there will be none, as
    /// persistence is off or the handle was closed. Cancel-safe.
    ///
    /// What is reported from then on counts as this run's; so that is when to [recover](Persist::recover).
    ///
    /// ```
    /// # use persist::{OrphanQuery, Persist, Recovery};
    /// # async fn example(persist: Persist) -> persist::Result<()> {
    /// let alive = persist.keep_alive(std::time::Duration::from_secs(60)).await?;
    /// if alive.beaten().await.is_some() {
    ///     persist.recover(&Recovery::of(OrphanQuery::default().actor("orchestrator-1"))).await?;
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn beaten(&self) -> Option<Owner> {
        let mut told = self.told.clone();
        let stood = told.wait_for(|told| told.owner.is_some()).await;
        stood.ok().and_then(|told| told.owner.clone())
    }

    /// Whether another instance beats under the same name, with a higher epoch: this one should end.
    pub fn is_taken_over(&self) -> bool {
        self.told.borrow().is_taken_over
    }

    /// Waits until another instance has taken over: for ever if none does. Cancel-safe.
    ///
    /// ```
    /// # async fn example(persist: persist::Persist, work: impl Future<Output = ()>) -> persist::Result<()> {
    /// let alive = persist.keep_alive(std::time::Duration::from_secs(60)).await?;
    /// tokio::select! {
    ///     () = work => {}
    ///     () = alive.taken_over() => eprintln!("another orchestrator has this name; ending"),
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn taken_over(&self) {
        let mut told = self.told.clone();
        if told.wait_for(|told| told.is_taken_over).await.is_err() {
            // Nobody beats any more.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if let Some(beating) = &self.beating {
            beating.abort();
        }
    }
}

/// Who beats.
#[derive(Debug)]
pub(crate) struct Beating {
    pub(crate) persist: Persist,
    pub(crate) actor: String,
    /// None until the database was asked which were before it.
    pub(crate) epoch: Option<u64>,
    pub(crate) valid_for: Duration,
}

impl Beating {
    /// Beats once, and from then on in the background, unless that has no prospect.
    pub(crate) async fn start(mut self) -> Result<Alive> {
        self.with_epoch(self.epoch.unwrap_or_default())
            .check()
            .map_err(|error| error.during("keep_alive"))?;
        let (tell, told) = watch::channel(Told::default());
        if self.persist.is_off() {
            let beating = None;
            return Ok(Alive { told, beating });
        }
        let line = OncePer::new(BETWEEN_WARNINGS);
        let begun = Instant::now();
        match self.beat().await {
            Err(error) if !heals(&error) => return Err(error.during("keep_alive")),
            first => note(first, &self.actor, &tell, &line),
        }
        let beating = Some(tokio::spawn(self.go_on(begun, tell, line)));
        Ok(Alive { told, beating })
    }

    async fn go_on(mut self, mut begun: Instant, tell: watch::Sender<Told>, line: OncePer) {
        let mut modes = self.persist.mode_changes();
        loop {
            due(&mut modes, begun + self.valid_for / 3).await;
            begun = Instant::now();
            match self.beat().await {
                Err(error) if error.kind() == ErrorKind::Closed => return,
                answer => note(answer, &self.actor, &tell, &line),
            }
        }
    }

    fn with_epoch(&self, epoch: u64) -> Heartbeat {
        Heartbeat::new(self.actor.clone(), epoch).valid_for(self.valid_for)
    }

    async fn beat(&mut self) -> Result<Owner> {
        let backend = self.persist.backend();
        let owners = of(&*backend)?;
        let epoch = match self.epoch {
            Some(epoch) => epoch,
            None => self.choose(owners).await?,
        };
        owners.heartbeat(&self.with_epoch(epoch)).await
    }

    /// One above all that beat under this name, or the present time where that is more: a clock that was set back starts no
    /// instance that is refused.
    async fn choose(&mut self, owners: &dyn Owners) -> Result<u64> {
        let known = owners.list().await?;
        let before = known.into_iter().find(|owner| owner.actor == self.actor);
        let now = u64::try_from(self.persist.clock().now().timestamp_micros()).unwrap_or_default();
        let epoch = before.map_or(now, |owner| now.max(owner.epoch.saturating_add(1)));
        self.epoch = Some(epoch);
        Ok(epoch)
    }
}

/// Waits for the next beat: until then, but no longer than until an outage ends, as the last one may have become too old in it.
/// Nor does closing wait.
async fn due(modes: &mut watch::Receiver<Mode>, next: Instant) {
    let back = async {
        let away = modes.wait_for(|mode| matches!(mode, Mode::Degraded | Mode::Closed));
        if away.await.is_ok_and(|mode| *mode == Mode::Degraded) {
            // An error: closed, which the next beat meets.
            let _ = modes.wait_for(|mode| *mode != Mode::Degraded).await;
        }
    };
    // An error: it is time.
    let _ = timeout_at(next, back).await;
}

/// The power of a backend.
///
/// # Errors
/// `Unsupported` where there is none.
pub(crate) fn of(backend: &dyn PersistBackend) -> Result<&dyn Owners> {
    let none = || Error::new(ErrorKind::Unsupported, "this backend knows of no owners");
    backend.owners().ok_or_else(none)
}

/// Whether waiting may do.
fn heals(error: &Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::InvalidInput
            | ErrorKind::InvalidUrl
            | ErrorKind::SchemaMismatch
            | ErrorKind::Unsupported
            | ErrorKind::Auth
            | ErrorKind::Closed
    )
}

fn note(answer: Result<Owner>, actor: &str, tell: &watch::Sender<Told>, line: &OncePer) {
    let error = match answer {
        Ok(owner) => {
            tell.send_replace(Told {
                owner: Some(owner),
                is_taken_over: false,
            });
            return;
        }
        Err(error) => error,
    };
    // All else was checked before the first beat.
    let is_taken_over = error.kind() == ErrorKind::InvalidInput;
    if is_taken_over {
        tell.send_modify(|told| told.is_taken_over = true);
    }
    let kind = error.kind().name();
    match line.pass() {
        Some(held_back) if is_taken_over => {
            tracing::error!(
                actor,
                held_back,
                "another instance has taken over this name; this one should end"
            );
        }
        Some(held_back) => {
            tracing::warn!(actor, kind, %error, held_back, "a heartbeat was not taken; trying again");
        }
        None => tracing::debug!(actor, kind, %error, "a heartbeat was not taken"),
    }
}

impl Persist {
    /// Says that this orchestrator is alive, under the handle's [actor](crate::Builder::actor) and a new epoch: what an earlier
    /// run of the name had reported last counts as left alone from now on, and so does what this one reports, once it has not
    /// beaten for `valid_for` (100 ms to 24 h).
    ///
    /// The first beat is made here, the next ones in the background, each after a third of `valid_for`, until what is returned is
    /// dropped. A database that is away is tried on, and told of its end at once. Call it before the first update: what comes to
    /// the database before the first beat looks as if an earlier run had left it. While persistence is off it does nothing.
    ///
    /// Where it starts while the database is away, the first beat is made when that is back, beside the updates that come then:
    /// - What this run has reported or spooled until then may be recorded before the beat. It counts as left by an earlier run
    ///   until its next state, and a recovery would end it. Report nothing before [`Alive::beaten`], or leave what this run has
    ///   begun out of what it recovers.
    /// - What an earlier run left in a spool is recorded when the database answers, which may be after the beat. It counts as this
    ///   run's, and no recovery finds it while this name beats. Empty the spool first (`persist spool replay`), or end what the
    ///   earlier run had in it by hand.
    ///
    /// Another instance that starts under the name takes it over: that is one loud line a minute, and
    /// [`Alive::taken_over`] tells. Cancel-safe.
    ///
    /// ```
    /// # async fn example() -> persist::Result<()> {
    /// # use std::time::Duration;
    /// use persist::{OrphanQuery, Persist, Recovery};
    /// let persist = Persist::builder(std::env::var("DATABASE_URL").ok()).actor("orchestrator-1").connect().await?;
    /// let alive = persist.keep_alive(Duration::from_secs(60)).await?;
    /// let left = Recovery::of(OrphanQuery::default().actor("orchestrator-1")).reason("the orchestrator was restarted");
    /// persist.recover(&left).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` where the handle has no actor, and for a time out of its range; `SchemaMismatch` for a store that lacks the
    /// migration of owners; `Unsupported`, `Auth` and `Closed`, which waiting does not heal either.
    pub async fn keep_alive(&self, valid_for: Duration) -> Result<Alive> {
        let actor = self.actor().unwrap_or_default().to_owned();
        self.beating(actor, None, valid_for).start().await
    }

    /// The same under a name and an epoch of one's own, such as a number that whoever starts the orchestrators counts up. With
    /// the epoch of the run before it goes on as that one: what that had reported is no orphan, as it suits an orchestrator whose
    /// VMs outlive it and that takes them up again.
    ///
    /// # Errors
    /// As [`keep_alive`](Self::keep_alive), and `InvalidInput` for an epoch that is lower than one that beat before: the error
    /// carries `epoch` as its `field`.
    pub async fn keep_alive_as(&self, beat: Heartbeat) -> Result<Alive> {
        let Heartbeat {
            actor,
            epoch,
            valid_for,
            ..
        } = beat;
        self.beating(actor, Some(epoch), valid_for).start().await
    }

    fn beating(&self, actor: String, epoch: Option<u64>, valid_for: Duration) -> Beating {
        Beating {
            persist: self.clone(),
            actor,
            epoch,
            valid_for,
        }
    }
}
