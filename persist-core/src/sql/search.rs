//! The search for what a prune removes: which statement comes next, and when there is enough. A backend sends what it is told
//! to, and reads the rows.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use uuid::Uuid;

use super::Dialect;
use super::prune::{Asked, Key, Text};
use crate::error::Result;
use crate::prune::{LARGEST_PRUNE, Prune, PrunePosition, PruneRepo};
use crate::state::JobState;
use crate::time::{self, Timestamp};

/// Repositories of the first answer, the most of one, and the most rows that are walked for one.
const FIRST_REPOS: u32 = 2;
const REPOS: u32 = 256;
const KEPT_ROWS: u32 = 10_000;

/// A row of an answer: a request id that may be one to remove, or a repository.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The first column.
    pub created_at: Option<Timestamp>,
    /// The second.
    pub request_id: Option<Uuid>,
    /// The third; null is no.
    pub matches: bool,
    /// The fourth.
    pub repo_url: Option<String>,
}

impl Candidate {
    fn key(&self) -> Option<Key> {
        self.created_at.zip(self.request_id)
    }
}

/// A search under way. It asks for a page of an index at a time, from where the last one ended.
///
/// ```
/// # use persist_core::sql::{Candidate, Dialect, Search};
/// # use persist_core::{JobState, Prune, Result};
/// # fn example(send: impl Fn(persist_core::sql::Asked) -> Vec<Candidate>) -> Result<()> {
/// let request = Prune::default().states([JobState::Failed]).check()?;
/// let mut search = Search::new(Dialect::Sqlite, "", &request)?;
/// while let Some(asked) = search.ask() {
///     search.answer(send(asked));
/// }
/// let (ids, next) = search.found();
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Search<'r> {
    dialect: Dialect,
    prefix: &'r str,
    request: &'r Prune,
    way: Way,
    found: Vec<PrunePosition>,
}

#[derive(Debug)]
enum Way {
    /// By age: the lanes side by side.
    Lanes(Vec<Lane>),
    Repos(Repos),
}

/// What a lane walks along.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Along {
    Named,
    Jobs(Option<JobState>),
    Vms,
}

/// A walk along one index.
#[derive(Debug)]
struct Lane {
    along: Along,
    walk: Walk,
    /// What matches of what it has passed.
    matching: VecDeque<Key>,
}

/// Rows of the first page, so that a walk with a high limit also comes to say how far it is.
const LONGEST_FIRST: u32 = 512;

/// How long a search may take of a call's deadline, whoever retries with a shorter one included.
pub fn time_of_search(deadline: Duration) -> Duration {
    (deadline / 2).min(Duration::from_secs(1))
}

/// How far a walk has come.
#[derive(Debug)]
struct Walk {
    after: Option<Key>,
    rows: u32,
    has_moved: bool,
    is_done: bool,
}

impl Walk {
    fn from(after: Option<Key>, request: &Prune) -> Self {
        Self {
            after,
            rows: (request.limit + 1).min(LONGEST_FIRST),
            has_moved: false,
            is_done: false,
        }
    }

    /// Where a page led; the next one is longer, so that few lead past much that does not match.
    fn passed(&mut self, rows: &[Candidate]) {
        self.has_moved = true;
        self.is_done = rows.len() < self.rows as usize;
        self.after = rows.last().and_then(Candidate::key).or(self.after);
        self.rows = self.rows.saturating_mul(2).min(LARGEST_PRUNE + 1);
    }
}

/// Repository by repository.
#[derive(Debug)]
struct Repos {
    keep: u32,
    /// So many are asked for.
    at_once: u32,
    /// The last one that was listed; the first one may be that of the place where it began.
    last: String,
    is_first: bool,
    has_moved: bool,
    known_done: bool,
    unknown_done: bool,
    /// Those to go through, each to the newest that is not kept.
    listed: VecDeque<(PruneRepo, Key)>,
    at: Option<(PruneRepo, Key, Walk)>,
    /// Where in the first one it begins.
    from: Option<PrunePosition>,
}

impl<'r> Search<'r> {
    /// The search of a checked request; `prefix` is a schema whose name was checked, with its dot, or nothing.
    ///
    /// # Errors
    /// `InvalidInput` as [`Prune::position`].
    pub fn new(dialect: Dialect, prefix: &'r str, request: &'r Prune) -> Result<Self> {
        let place = request.position()?;
        let way = match request.keep_per_repo {
            Some(keep) if request.is_by_repo() => Way::Repos(Repos::from(place, keep)),
            _ => {
                let after = place.map(|place| (place.created_at, place.request_id));
                let lane = |along| Lane {
                    along,
                    walk: Walk::from(after, request),
                    matching: VecDeque::new(),
                };
                Way::Lanes(along(request).into_iter().map(lane).collect())
            }
        };
        Ok(Self {
            dialect,
            prefix,
            request,
            way,
            found: Vec::new(),
        })
    }

    /// What to send next; `None` when it is over.
    pub fn ask(&mut self) -> Option<Asked> {
        let text = Text::new(self.dialect, self.prefix, self.request);
        match &mut self.way {
            Way::Lanes(lanes) => {
                let lane = waits(lanes, &mut self.found, self.request.limit)?;
                let Walk { after, rows, .. } = lanes[lane].walk;
                Some(match lanes[lane].along {
                    Along::Named => text.named(after, rows),
                    Along::Jobs(ending) => text.by_age(ending, after, rows),
                    Along::Vms => text.vms_by_age(after, rows),
                })
            }
            Way::Repos(_) if self.found.len() > self.request.limit as usize => None,
            Way::Repos(repos) => repos.ask(text, self.request),
        }
    }

    /// The rows of what was asked last.
    pub fn answer(&mut self, rows: Vec<Candidate>) {
        match &mut self.way {
            Way::Lanes(lanes) => {
                if let Some(lane) = waits(lanes, &mut self.found, self.request.limit) {
                    let lane = &mut lanes[lane];
                    lane.walk.passed(&rows);
                    let matching = rows.iter().filter(|row| row.matches);
                    lane.matching.extend(matching.filter_map(Candidate::key));
                }
            }
            Way::Repos(repos) => repos.answer(rows, &mut self.found),
        }
    }

    /// Whether it may be left before it is over: what goes on from its place gets further.
    pub fn has_moved(&self) -> bool {
        match &self.way {
            Way::Lanes(lanes) => lanes.iter().all(|lane| lane.walk.has_moved),
            Way::Repos(repos) => repos.has_moved,
        }
    }

    /// What to remove, and where to go on if that was not all. Also of a search that is not over, but
    /// [has moved](Self::has_moved).
    pub fn found(self) -> (Vec<Uuid>, Option<PrunePosition>) {
        let Self {
            mut found,
            request,
            mut way,
            ..
        } = self;
        if let Way::Lanes(lanes) = &mut way {
            waits(lanes, &mut found, request.limit);
        }
        let limit = request.limit as usize;
        let next = if found.len() > limit {
            found.get(limit - 1).cloned()
        } else {
            way.place()
        };
        found.truncate(limit);
        // One that moved on between two pages may have been met twice.
        let mut seen = HashSet::new();
        let ids = found.into_iter().map(|place| place.request_id);
        (ids.filter(|id| seen.insert(*id)).collect(), next)
    }
}

impl Way {
    /// How far a search has come that was not ended by its limit; `None` at its end.
    fn place(self) -> Option<PrunePosition> {
        match self {
            Self::Lanes(lanes) => {
                let open = lanes.iter().filter(|lane| !lane.walk.is_done);
                let (at, id) = open.map(|lane| lane.walk.after).min().flatten()?;
                Some(PrunePosition {
                    repo: PruneRepo::Any,
                    created_at: at,
                    request_id: id,
                })
            }
            Self::Repos(repos) => repos.place(),
        }
    }
}

/// The indexes along which the matching ones of a request lie.
fn along(request: &Prune) -> Vec<Along> {
    if !request.ids.is_empty() {
        vec![Along::Named]
    } else if request.states.is_empty() {
        vec![Along::Jobs(None), Along::Vms]
    } else {
        let mut states = request.states.clone();
        states.sort_unstable();
        states.dedup();
        states.into_iter().map(|state| Along::Jobs(Some(state))).collect()
    }
}

/// Takes the matching ones from the lanes in their order, until there are more than the limit: the lane that must be asked for
/// that to go on.
fn waits(lanes: &mut [Lane], found: &mut Vec<PrunePosition>, limit: u32) -> Option<usize> {
    while found.len() <= limit as usize {
        let next = lanes
            .iter()
            .filter_map(|lane| lane.matching.front().copied())
            .min();
        let may_come_before = |lane: &Lane| {
            lane.matching.is_empty() && !lane.walk.is_done && (next.is_none() || lane.walk.after < next)
        };
        if let Some(lane) = lanes.iter().position(may_come_before) {
            return Some(lane);
        }
        let next = next?;
        for lane in lanes.iter_mut() {
            // A job whose ending changes meanwhile is met twice.
            lane.matching.pop_front_if(|key| *key == next);
        }
        found.push(PrunePosition {
            repo: PruneRepo::Any,
            created_at: next.0,
            request_id: next.1,
        });
    }
    None
}

impl Repos {
    fn from(place: Option<PrunePosition>, keep: u32) -> Self {
        let mut repos = Self {
            keep,
            at_once: FIRST_REPOS,
            last: String::new(),
            is_first: true,
            has_moved: false,
            known_done: false,
            unknown_done: false,
            listed: VecDeque::new(),
            at: None,
            from: None,
        };
        match place.as_ref().map(|place| &place.repo) {
            Some(PruneRepo::Known(repo)) => repos.last.clone_from(repo),
            Some(_) => repos.known_done = true,
            None => {}
        }
        repos.from = place;
        repos
    }

    fn ask(&mut self, text: Text<'_>, request: &Prune) -> Option<Asked> {
        if self.at.as_ref().is_none_or(|(.., walk)| walk.is_done)
            && let Some((repo, until)) = self.listed.pop_front()
        {
            let after = self.from.take().filter(|from| from.repo == repo);
            let after = after.map(|from| (from.created_at, from.request_id));
            self.at = Some((repo, until, Walk::from(after, request)));
        }
        if let Some((repo, until, walk)) = self.at.as_ref().filter(|(.., walk)| !walk.is_done) {
            let repo = match repo {
                PruneRepo::Known(repo) => Some(repo.as_str()),
                PruneRepo::Any | PruneRepo::Unknown => None,
            };
            return Some(text.of_repo(repo, walk.after, *until, walk.rows));
        }
        if !self.known_done {
            return Some(text.repos(&self.last, self.is_first, self.keep, self.at_once));
        }
        (!self.unknown_done).then(|| text.unknown_repo(self.keep))
    }

    fn answer(&mut self, rows: Vec<Candidate>, found: &mut Vec<PrunePosition>) {
        if let Some((repo, _, walk)) = self.at.as_mut().filter(|(.., walk)| !walk.is_done) {
            walk.passed(&rows);
            self.has_moved = true;
            let matching = rows.iter().filter(|row| row.matches);
            found.extend(
                matching
                    .filter_map(Candidate::key)
                    .map(|(created_at, request_id)| PrunePosition {
                        repo: repo.clone(),
                        created_at,
                        request_id,
                    }),
            );
        } else if self.known_done {
            self.unknown_done = true;
            let newest = rows.first().and_then(Candidate::key);
            self.listed
                .extend(newest.map(|newest| (PruneRepo::Unknown, newest)));
        } else {
            self.known_done = rows.len() < self.at_once as usize;
            self.is_first = false;
            let most = KEPT_ROWS / self.keep.saturating_add(1);
            self.at_once = (self.at_once * 2).clamp(1, most.clamp(1, REPOS));
            for row in rows {
                let newest = row.key();
                let Some(repo) = row.repo_url else { continue };
                self.last.clone_from(&repo);
                self.listed
                    .extend(newest.map(|newest| (PruneRepo::Known(repo), newest)));
            }
            // Those that have nothing to spare were passed.
            self.has_moved |= self.listed.is_empty();
        }
    }

    fn place(self) -> Option<PrunePosition> {
        let place = |repo, (created_at, request_id)| {
            Some(PrunePosition {
                repo,
                created_at,
                request_id,
            })
        };
        // Before any of its jobs: no id is nil.
        let first = (Timestamp::UNIX_EPOCH, Uuid::nil());
        match self.at.filter(|(.., walk)| !walk.is_done) {
            Some((repo, _, walk)) => place(repo, walk.after.unwrap_or(first)),
            None => match self.listed.into_iter().next() {
                Some((repo, _)) => place(repo, first),
                // Behind all of its jobs.
                None if !self.known_done => place(PruneRepo::Known(self.last), (time::latest(), Uuid::max())),
                None if !self.unknown_done => place(PruneRepo::Unknown, first),
                None => None,
            },
        }
    }
}
