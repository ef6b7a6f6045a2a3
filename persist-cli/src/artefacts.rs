//! `persist artefacts`: overlays and seeds by the record, and beside a folder what leaks and what is missing.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use chrono::TimeDelta;
use clap::Args;
use comfy_table::Cell;
use futures_util::StreamExt as _;
use persist::{Artefact, Clock as _, Keeping, PersistBackend, PersistExt as _, SystemClock, Timestamp};
use serde::Serialize;

use crate::args::Format;
use crate::context::Context;
use crate::exit::{Code, Failure, unless_unread};
use crate::listing::{self, Listed};
use crate::span::parse_span;
use crate::table::{self, Heading, Heading::Fixed, Heading::Text};
use crate::talk;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  persist artefacts                                 what exists by the record
  persist artefacts --overdue --grace 2h            what should have been removed by now
  persist artefacts --check-dir /var/lib/ci/overlays

in_use: its VM is prepared or running. kept: its VM has ended, its job is live or ended within the grace. overdue: neither. \
With --check-dir: a leak is a file that no VM needs, a stranger one that no VM reported, a ghost a file that is needed and \
not there. Nothing is deleted.

Exit codes: 0; with --check-dir 1 where there is a leak or a ghost.";

#[derive(Args)]
pub(crate) struct ArtefactsArgs {
    /// Only what should have been removed
    #[arg(long, conflicts_with = "check_dir")]
    overdue: bool,
    /// How long after the end of a job its files may stay: 90s, 30m, 2h, 7d
    #[arg(long, value_name = "AGE", default_value = "1h", value_parser = parse_span)]
    grace: Duration,
    /// Compare with the files of this folder and those below it; links are not followed
    #[arg(long, value_name = "DIR")]
    check_dir: Option<PathBuf>,
}

impl Listed for Artefact {
    const HEADINGS: &'static [Heading] = &[
        Text("KEEPING"),
        Text("KIND"),
        Text("PATH"),
        Text("VM"),
        Text("VM STATE"),
        Fixed("JOB"),
        Text("JOB STATE"),
        Fixed("SINCE (UTC)"),
    ];

    fn cells(&self, colour: bool) -> Vec<Cell> {
        vec![
            Cell::new(self.keeping.name()),
            Cell::new(self.kind.name()),
            table::text(Some(&self.path)),
            table::text(Some(&self.domain_name)),
            table::state(self.vm_state, colour),
            Cell::new(self.request_id),
            self.job_state
                .map_or_else(|| table::text(None), |state| table::state(state, colour)),
            table::moment(self.since),
        ]
    }
}

pub(crate) async fn run(args: ArtefactsArgs, context: &mut Context) -> Result<Code, Failure> {
    let grace = TimeDelta::from_std(args.grace).unwrap_or(TimeDelta::MAX);
    if let Some(folder) = &args.check_dir {
        let folder = Folder::read(folder)?;
        let backend = context.database.for_reading().await?;
        let bar = talk::spinner("comparing");
        let compared = compare(&*backend, folder, grace).await;
        bar.finish_and_clear();
        let found = compared?;
        backend.close().await?;
        unless_unread(print(context, &found))?;
        let is_well = found.iter().all(|one| one.found == "stranger");
        return Ok(if is_well { Code::Ok } else { Code::Failed });
    }
    let backend = context.database.for_reading().await?;
    let now = SystemClock.now();
    let needed = needed(&*backend, now, grace).await?;
    let wanted = backend.artefacts(now, grace).filter(|artefact| {
        let is_wanted = artefact.as_ref().map_or(true, |artefact| match artefact.keeping {
            Keeping::Gone => false,
            // One VM may have left the file that another has now.
            Keeping::Overdue => !needed.contains(&artefact.path),
            Keeping::Kept | Keeping::InUse => !args.overdue,
        });
        std::future::ready(is_wanted)
    });
    listing::all(context, wanted).await?;
    backend.close().await?;
    Ok(Code::Ok)
}

/// Paths that some VM needs.
async fn needed(
    backend: &dyn PersistBackend,
    now: Timestamp,
    grace: TimeDelta,
) -> Result<HashSet<String>, Failure> {
    let mut needed = HashSet::new();
    let mut artefacts = pin!(backend.artefacts(now, grace));
    while let Some(artefact) = artefacts.next().await.transpose()? {
        if matches!(artefact.keeping, Keeping::Kept | Keeping::InUse) {
            needed.insert(artefact.path);
        }
    }
    Ok(needed)
}

/// A file on which record and folder do not agree.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Found {
    found: &'static str,
    path: String,
    /// Bytes of the file; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<uuid::Uuid>,
}

impl Listed for Found {
    const HEADINGS: &'static [Heading] = &[
        Text("FOUND"),
        Text("PATH"),
        Text("BYTES"),
        Text("VM"),
        Fixed("JOB"),
    ];

    fn cells(&self, _colour: bool) -> Vec<Cell> {
        vec![
            Cell::new(self.found),
            table::text(Some(&self.path)),
            self.bytes.map_or_else(|| table::text(None), Cell::new),
            table::text(self.domain_name.as_deref()),
            self.request_id.map_or_else(|| table::text(None), Cell::new),
        ]
    }
}

/// A file, and the strongest word of the record on it.
struct File {
    bytes: u64,
    said: Option<(Keeping, String, uuid::Uuid)>,
}

/// The files below a folder, by their path from it on.
struct Folder {
    /// How it may be named in the record: as it was given, and without links.
    names: [PathBuf; 2],
    files: BTreeMap<PathBuf, File>,
}

impl Folder {
    fn read(given: &Path) -> Result<Self, Failure> {
        let failed = |path: &Path, error: &io::Error| {
            Failure::told(
                Code::Failed,
                format!("{} could not be read: {error}", path.display()),
            )
        };
        let whole = given.canonicalize().map_err(|error| failed(given, &error))?;
        let named = std::path::absolute(given).map_err(|error| failed(given, &error))?;
        let mut files = BTreeMap::new();
        let mut folders = vec![whole.clone()];
        while let Some(folder) = folders.pop() {
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                // It went while its parent was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound && folder != whole => continue,
                Err(error) => return Err(failed(&folder, &error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| failed(&folder, &error))?;
                let path = entry.path();
                // Of the link itself, where it is one.
                let data = match entry.metadata() {
                    Ok(data) => data,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(failed(&path, &error)),
                };
                if data.is_dir() {
                    folders.push(path);
                } else if let Ok(below) = path.strip_prefix(&whole) {
                    let bytes = data.len();
                    files.insert(below.to_owned(), File { bytes, said: None });
                }
            }
        }
        Ok(Self {
            names: [named, whole],
            files,
        })
    }

    /// A path of the record from the folder on, where it lies below it.
    fn below<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        self.names.iter().find_map(|name| path.strip_prefix(name).ok())
    }

    /// Whether there is such a file now: the record is read for some time after the folder was.
    fn has(&self, below: &Path) -> bool {
        self.names[1].join(below).symlink_metadata().is_ok()
    }
}

/// What differs: strangers and leaks by path, then ghosts.
async fn compare(
    backend: &dyn PersistBackend,
    mut folder: Folder,
    grace: TimeDelta,
) -> Result<Vec<Found>, Failure> {
    let (mut ghosts, mut is_known) = (Vec::new(), false);
    let mut artefacts = pin!(backend.artefacts(SystemClock.now(), grace));
    while let Some(artefact) = artefacts.next().await.transpose()? {
        let Some(below) = folder.below(Path::new(&artefact.path)) else {
            continue;
        };
        is_known = true;
        let is_missing = artefact.keeping == Keeping::InUse && !folder.has(below);
        match folder.files.get_mut(below) {
            // Several VMs may have had one file: what one of them needs is no leak.
            Some(file) if file.said.as_ref().is_none_or(|said| said.0 < artefact.keeping) => {
                file.said = Some((artefact.keeping, artefact.domain_name, artefact.request_id));
            }
            Some(_) => {}
            None if is_missing => ghosts.push(Found {
                found: "ghost",
                path: artefact.path,
                bytes: None,
                domain_name: Some(artefact.domain_name),
                request_id: Some(artefact.request_id),
            }),
            None => {}
        }
    }
    if !is_known {
        let named = folder.names[0].display();
        talk::say(&format!(
            "no path of the record lies below {named}: is it the right folder?"
        ));
    }
    let files = std::mem::take(&mut folder.files);
    let unneeded = files.into_iter().filter_map(|(below, file)| {
        let (found, domain_name, request_id) = match file.said {
            None => ("stranger", None, None),
            Some((Keeping::Gone | Keeping::Overdue, name, id)) => ("leak", Some(name), Some(id)),
            Some((Keeping::Kept | Keeping::InUse, ..)) => return None,
        };
        folder.has(&below).then(|| Found {
            found,
            path: folder.names[0].join(&below).to_string_lossy().into_owned(),
            bytes: Some(file.bytes),
            domain_name,
            request_id,
        })
    });
    let found: Vec<_> = unneeded.collect();
    Ok(found.into_iter().chain(ghosts).collect())
}

fn print(context: &mut Context, found: &[Found]) -> Result<(), Failure> {
    match context.format {
        Format::Table if found.is_empty() => talk::say("folder and record agree"),
        Format::Table => listing::rows(context, found)?,
        Format::Json => context.out.json(found)?,
        Format::Jsonl => {
            for one in found {
                context.out.json(one)?;
            }
        }
    }
    Ok(())
}
