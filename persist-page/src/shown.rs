//! Values as the templates show them.

use chrono::TimeDelta;
use persist::shown::span::human;
use persist::{Job, JobState, State, StateTable, Timestamp, Vm, VmState, time};
use url::Url;

use crate::params::address;

/// A time: how long ago, and exactly.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    pub(crate) ago: String,
    pub(crate) exact: String,
    pub(crate) iso: String,
}

impl Moment {
    pub(crate) fn new(at: Timestamp, now: Timestamp) -> Self {
        Self {
            ago: ago(now - at),
            exact: at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
            iso: time::format(at),
        }
    }
}

/// In one unit: a column of these is read at a glance.
fn ago(span: TimeDelta) -> String {
    // A little before now is the clocks of two servers, and nothing to come.
    let seconds = match span.num_seconds() {
        -59..0 => 0,
        seconds => seconds,
    };
    let (lead, trail) = if seconds < 0 { ("in ", "") } else { ("", " ago") };
    let seconds = seconds.abs();
    let (number, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3_600 => (seconds / 60, "min"),
        3_600..86_400 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{lead}{number} {unit}{trail}")
}

/// A state: its word, and the class that gives it its colour.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Badge {
    pub(crate) word: &'static str,
    pub(crate) class: &'static str,
    pub(crate) about: &'static str,
}

impl Badge {
    pub(crate) fn new(state: impl Into<State>) -> Self {
        let state = state.into();
        let (about, class) = match state {
            State::Job(state) => (state.spec().about, class_of_job(state)),
            State::Vm(state) => (state.spec().about, class_of_vm(state)),
        };
        Self {
            word: state.name(),
            class,
            about,
        }
    }
}

fn class_of_job(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "waits",
        JobState::Running => "runs",
        JobState::Succeeded => "good",
        JobState::Failed | JobState::TimedOut | JobState::Lost => "bad",
        // The enum may grow: what is not known here is told by its word.
        _ => "over",
    }
}

fn class_of_vm(state: VmState) -> &'static str {
    match state {
        VmState::Prepared => "waits",
        VmState::Running => "runs",
        VmState::Failed => "bad",
        _ => "over",
    }
}

/// A repository.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    pub(crate) url: String,
    /// Without what most of them share.
    pub(crate) short: String,
    /// Where a browser may go; `None` for any other scheme.
    pub(crate) href: Option<String>,
    /// The jobs of it.
    pub(crate) jobs: String,
}

impl Repository {
    pub(crate) fn new(url: &str) -> Self {
        let parsed = Url::parse(url).ok();
        let web = parsed.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let bare = url.split_once("://").map_or(url, |(_, rest)| rest);
        Self {
            url: url.to_owned(),
            short: bare.strip_suffix(".git").unwrap_or(bare).to_owned(),
            href: web.map(String::from),
            jobs: address("/", [("repo_url", url)]),
        }
    }
}

/// So many digits of a commit or an id name it in any store of a person's size.
pub(crate) fn short(text: &str, digits: usize) -> String {
    text.get(..digits).unwrap_or(text).to_owned()
}

/// A job in a list.
#[derive(Debug)]
pub(crate) struct JobRow {
    pub(crate) id: String,
    pub(crate) short: String,
    /// Of the id, shown where there is room.
    pub(crate) rest: String,
    pub(crate) state: Badge,
    pub(crate) attempt: u32,
    pub(crate) repository: Option<Repository>,
    pub(crate) commit: Option<String>,
    pub(crate) commit_short: String,
    pub(crate) runs_on: Option<String>,
    pub(crate) created: Moment,
    pub(crate) updated: Moment,
    /// From its first report to its last, or to now.
    pub(crate) lasted: String,
}

impl JobRow {
    pub(crate) fn new(job: &Job, now: Timestamp) -> Self {
        let id = job.request_id.to_string();
        let until = if job.state.is_ended() { job.updated_at } else { now };
        Self {
            short: short(&id, 13),
            rest: id.get(13..).unwrap_or_default().to_owned(),
            id,
            state: Badge::new(job.state),
            attempt: job.attempt.get(),
            repository: job.repo_url.as_deref().map(Repository::new),
            commit: job.commit_sha.clone(),
            commit_short: job
                .commit_sha
                .as_deref()
                .map(|sha| short(sha, 12))
                .unwrap_or_default(),
            runs_on: job.runs_on.clone(),
            created: Moment::new(job.created_at, now),
            updated: Moment::new(job.updated_at, now),
            lasted: human(until - job.created_at),
        }
    }
}

/// A VM in a list.
#[derive(Debug)]
pub(crate) struct VmRow {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) short: String,
    pub(crate) state: Badge,
    pub(crate) attempt: u32,
    pub(crate) backend: Option<String>,
    pub(crate) overlay: Option<String>,
    pub(crate) seed: Option<String>,
    pub(crate) created: Moment,
    pub(crate) updated: Moment,
}

impl VmRow {
    pub(crate) fn new(vm: &Vm, now: Timestamp) -> Self {
        let id = vm.request_id.to_string();
        Self {
            name: vm.domain_name.clone(),
            short: short(&id, 13),
            id,
            state: Badge::new(vm.state),
            attempt: vm.attempt.get(),
            backend: vm.backend.clone(),
            overlay: vm.overlay_path.clone(),
            seed: vm.seed_path.clone(),
            created: Moment::new(vm.created_at, now),
            updated: Moment::new(vm.updated_at, now),
        }
    }
}

/// A choice of a form.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) word: &'static str,
    pub(crate) class: &'static str,
    pub(crate) about: &'static str,
    pub(crate) chosen: bool,
}

/// A box for each state of the table.
pub(crate) fn choices<S: StateTable + Into<State>>(chosen: &[S]) -> Vec<Choice> {
    let line = S::TABLE.iter();
    line.map(|line| {
        let badge = Badge::new(line.state);
        Choice {
            word: badge.word,
            class: badge.class,
            about: badge.about,
            chosen: chosen.contains(&line.state),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_web_becomes_a_link() {
        let href = |url: &str| Repository::new(url).href;
        assert_eq!(
            href("https://git.example.org/a.git").as_deref(),
            Some("https://git.example.org/a.git")
        );
        assert_eq!(
            href("HTTP://git.example.org/a").as_deref(),
            Some("http://git.example.org/a")
        );
        for url in [
            "javascript:alert(1)",
            "data:text/html,x",
            "ssh://git@host/a",
            "git@host:a",
            "//host/a",
            "java\nscript:x",
            "file:///etc",
        ] {
            assert_eq!(href(url), None, "{url}");
        }
        assert_eq!(
            Repository::new("https://git.example.org/acme/app.git").short,
            "git.example.org/acme/app"
        );
    }

    #[test]
    fn an_age_has_one_unit() {
        let told = |seconds| ago(TimeDelta::seconds(seconds));
        assert_eq!(
            [0, 59, 60, 7_199, 86_400 * 3].map(told),
            ["0 s ago", "59 s ago", "1 min ago", "1 h ago", "3 d ago"]
        );
        assert_eq!(told(-90), "in 1 min");
    }
}
