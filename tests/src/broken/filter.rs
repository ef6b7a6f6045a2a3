//! What the filters of the lists let pass, as they should and as they are broken.

use persist_core::{IdRange, Job, JobQuery, StateTable, TimeRange, Timestamp, Vm, VmQuery};
use uuid::Uuid;

use super::Lists;
use super::list::Listing;

impl Listing<'_> {
    pub(super) fn passes_job(&self, query: &JobQuery, job: &Job) -> bool {
        let commit = query
            .commit_sha
            .as_deref()
            .is_none_or(|wanted| match (self.defect, &job.commit_sha) {
                (Some(Lists::BlankPassesFilter), None) => true,
                (_, None) => false,
                (Some(Lists::CommitIsWhole), Some(sha)) => sha == wanted,
                (Some(Lists::CommitIsAnyPart), Some(sha)) => sha.contains(wanted),
                (_, Some(sha)) => sha.starts_with(wanted),
            });
        commit
            && self.has_state(&query.states, job.state)
            && self.is_text(&query.repo_url, &job.repo_url)
            && (self.has(Lists::FilterIsIgnored) || self.is_text(&query.runs_on, &job.runs_on))
            && self.is_in(
                query.created,
                query.ids,
                job.request_id,
                [job.created_at, job.updated_at],
            )
    }

    pub(super) fn passes_vm(&self, query: &VmQuery, vm: &Vm) -> bool {
        query.request_id.is_none_or(|id| id == vm.request_id)
            && self.has_state(&query.states, vm.state)
            && self.is_text(&query.domain_name, &Some(vm.domain_name.clone()))
            && (self.has(Lists::FilterIsIgnored) || self.is_text(&query.backend, &vm.backend))
            && self.is_in(
                query.created,
                query.ids,
                vm.request_id,
                [vm.created_at, vm.updated_at],
            )
    }

    fn has_state<S: StateTable>(&self, wanted: &[S], state: S) -> bool {
        let ended = wanted.iter().any(|state| state.is_ended());
        match self.defect {
            Some(Lists::OneStateCounts) => wanted.first().is_none_or(|first| *first == state),
            Some(Lists::EndedIncludesLive) if ended && !state.is_ended() => true,
            _ => wanted.is_empty() || wanted.contains(&state),
        }
    }

    fn is_text(&self, wanted: &Option<String>, value: &Option<String>) -> bool {
        let Some(wanted) = wanted else { return true };
        let Some(value) = value else {
            return self.has(Lists::BlankPassesFilter);
        };
        match self.defect {
            Some(Lists::TextsFoldCase) => wanted.to_lowercase() == value.to_lowercase(),
            Some(Lists::TextsArePatterns) => is_like(wanted, value),
            _ => wanted == value,
        }
    }

    fn is_in(&self, times: TimeRange, ids: IdRange, id: Uuid, [created, updated]: [Timestamp; 2]) -> bool {
        let in_time = match self.defect {
            Some(Lists::UntilIsInclusive) => times.contains(created) || times.until == Some(created),
            Some(Lists::FromIsExclusive) => times.contains(created) && times.from != Some(created),
            Some(Lists::RangeIsOfUpdate) => times.contains(updated),
            _ => times.contains(created),
        };
        in_time && ids.contains(id) && !(self.has(Lists::LastIdIsExclusive) && ids.to == Some(id))
    }
}

/// `LIKE` of SQL.
fn is_like(pattern: &str, text: &str) -> bool {
    let Some(first) = pattern.chars().next() else {
        return text.is_empty();
    };
    let rest = &pattern[first.len_utf8()..];
    let mut ends = text
        .char_indices()
        .map(|(at, letter)| (at, at + letter.len_utf8(), letter));
    match first {
        '%' => is_like(rest, text) || ends.any(|(_, end, _)| is_like(rest, &text[end..])),
        _ => ends
            .next()
            .is_some_and(|(_, end, letter)| (first == '_' || first == letter) && is_like(rest, &text[end..])),
    }
}
