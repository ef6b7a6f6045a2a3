//! Backends that are broken on purpose, each in one clause: what proves that the suite would notice.
//!
//! [`Broken`] is a layer over memory. Its [`Defect`] says which clause it breaks; [`Defect::all`] says by which
//! case that must be noticed. Without a defect every call takes the way of all of them, so that a layer which
//! breaks more than it says shows itself: the healthy one must pass everything.

mod changes;
mod filter;
mod history;
mod layer;
mod life;
mod list;
mod look;
mod owned;
mod page;
mod prune;
mod refused;
mod rewrite;
mod row;
mod told;
mod write;

use std::fmt::{self, Debug};

pub use changes::Watches;
pub use history::Histories;
pub use layer::{Broken, BrokenStores};
pub use life::Lives;
pub use list::Lists;
pub use look::Looks;
pub use owned::Owned;
pub use prune::Prunes;
pub use refused::Refused;
pub use row::Rows;
pub use write::Writes;

/// Which clause is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// What an update does, and what is told of it.
    Write(Writes),
    /// What the current row of a job shows.
    Job(Rows),
    /// What the current row of a VM shows.
    Vm(Rows),
    /// Lists of jobs.
    Jobs(Lists),
    /// Lists of VMs.
    Vms(Lists),
    /// Pages of the history.
    History(Histories),
    /// The changes that are watched.
    Watch(Watches),
    /// Retention.
    Prune(Prunes),
    /// Heartbeats and orphans.
    Owner(Owned),
    /// The account of what was refused.
    Refused(Refused),
    /// The power to be looked over.
    Look(Looks),
    /// Reads and writes as such, handles, and their end.
    Life(Lives),
}

impl Defect {
    /// Every defect, with the case (`group::name`) that is there to notice it.
    pub fn all() -> impl Iterator<Item = (Defect, &'static str)> {
        fn of<T: Copy>(
            defects: &'static [(T, &'static str)],
            defect: fn(T) -> Defect,
        ) -> impl Iterator<Item = (Defect, &'static str)> {
            defects.iter().map(move |(broken, case)| (defect(*broken), *case))
        }
        of(write::ALL, Defect::Write)
            .chain(of(row::JOBS, Defect::Job))
            .chain(of(row::VMS, Defect::Vm))
            .chain(of(list::JOBS, Defect::Jobs))
            .chain(of(list::VMS, Defect::Vms))
            .chain(of(history::ALL, Defect::History))
            .chain(of(changes::ALL, Defect::Watch))
            .chain(of(prune::ALL, Defect::Prune))
            .chain(of(owned::ALL, Defect::Owner))
            .chain(of(refused::ALL, Defect::Refused))
            .chain(of(look::ALL, Defect::Look))
            .chain(of(life::ALL, Defect::Life))
    }
}

/// `job::goes_backwards`: the name of its test.
impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (of, broken): (_, &dyn Debug) = match self {
            Self::Write(broken) => ("write", broken),
            Self::Job(broken) => ("job", broken),
            Self::Vm(broken) => ("vm", broken),
            Self::Jobs(broken) => ("jobs", broken),
            Self::Vms(broken) => ("vms", broken),
            Self::History(broken) => ("history", broken),
            Self::Watch(broken) => ("watch", broken),
            Self::Prune(broken) => ("prune", broken),
            Self::Owner(broken) => ("owner", broken),
            Self::Refused(broken) => ("refused", broken),
            Self::Look(broken) => ("look", broken),
            Self::Life(broken) => ("life", broken),
        };
        let mut words = String::new();
        for letter in format!("{broken:?}").chars() {
            if letter.is_ascii_uppercase() && !words.is_empty() {
                words.push('_');
            }
            words.push(letter.to_ascii_lowercase());
        }
        write!(f, "{of}::{words}")
    }
}
