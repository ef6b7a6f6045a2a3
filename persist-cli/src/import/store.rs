//! What the store holds after an import, and what to type next.

use std::pin::pin;

use futures_util::{Stream, StreamExt as _};
use persist::{Job, JobQuery, JobState, PersistBackend, PersistExt as _, Result, StateTable, VmQuery};

use crate::context::Context;
use crate::exit::Failure;
use crate::listing;

/// Rows that are counted. A bigger store would keep its user waiting.
const MOST: u64 = 100_000;
const NEWEST: u32 = 5;

pub(crate) async fn show(context: &mut Context, backend: &dyn PersistBackend) -> Result<(), Failure> {
    context.out.flush()?;
    let jobs = count(
        backend
            .all_jobs(JobQuery::default())
            .map(|job| job.map(|job| job.state)),
    )
    .await?;
    let vms = count(
        backend
            .all_vms(VmQuery::default())
            .map(|vm| vm.map(|vm| vm.state)),
    )
    .await?;
    context.out.line("\nthe store now holds")?;
    context.out.line(&format!("  {}", jobs.line("job", "jobs")))?;
    context.out.line(&format!("  {}", vms.line("VM", "VMs")))?;
    let newest = backend.jobs(&JobQuery::default().limit(NEWEST)).await?.items;
    if !newest.is_empty() {
        context.out.line("\nnewest jobs")?;
        listing::rows(context, &newest)?;
    }
    context.out.line("\nnext")?;
    let persist = context.database.program();
    for line in next(&newest) {
        context.out.line(&format!("  {persist} {line}"))?;
    }
    Ok(())
}

fn next(newest: &[Job]) -> Vec<String> {
    let mut lines = vec![format!("jobs --state {}", JobState::Failed)];
    lines.extend(newest.first().map(|job| format!("job {}", job.request_id)));
    lines.push("export".to_owned());
    lines
}

/// How many rows are in each state.
struct Counted<S: StateTable> {
    by_state: Vec<(S, u64)>,
    /// Whether counting stopped before the end.
    more: bool,
}

async fn count<S: StateTable>(states: impl Stream<Item = Result<S>>) -> Result<Counted<S>> {
    let mut states = pin!(states);
    let mut counted = Counted {
        by_state: S::TABLE.iter().map(|line| (line.state, 0)).collect(),
        more: false,
    };
    let mut rows = 0;
    while let Some(state) = states.next().await.transpose()? {
        if rows == MOST {
            counted.more = true;
            break;
        }
        rows += 1;
        if let Some((_, count)) = counted.by_state.iter_mut().find(|(counted, _)| *counted == state) {
            *count += 1;
        }
    }
    Ok(counted)
}

impl<S: StateTable> Counted<S> {
    fn line(&self, one: &str, many: &str) -> String {
        let rows: u64 = self.by_state.iter().map(|(_, count)| count).sum();
        let states: Vec<_> = self.by_state.iter().filter(|(_, count)| *count > 0).collect();
        let states: Vec<_> = states
            .iter()
            .map(|(state, count)| format!("{count} {}", state.name()))
            .collect();
        match (rows, self.more) {
            (0, _) => format!("no {many}"),
            (1, false) => format!("1 {one}: {}", states.join(", ")),
            (_, false) => format!("{rows} {many}: {}", states.join(", ")),
            (_, true) => format!("more than {rows} {many}; of the newest: {}", states.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use persist::VmState;

    #[test]
    fn a_store_in_a_line() {
        let mut counted = Counted {
            by_state: vec![(JobState::Queued, 2), (JobState::Failed, 0)],
            more: false,
        };
        assert_eq!(counted.line("job", "jobs"), "2 jobs: 2 queued");
        counted.more = true;
        assert_eq!(
            counted.line("job", "jobs"),
            "more than 2 jobs; of the newest: 2 queued"
        );
        let none = Counted {
            by_state: vec![(VmState::Running, 0)],
            more: false,
        };
        assert_eq!(none.line("VM", "VMs"), "no VMs");
    }
}
