//! Filters of the lists, as addresses say them: the names are the flags of the command line.

use persist::shown::span;
use persist::{
    Clock, Cursor, JobQuery, JobState, Order, OrphanKind, OrphanQuery, RefusalQuery, Result, StateTable,
    TimeRange, VmQuery, VmState, limits,
};
use uuid::Uuid;

use crate::failure::Answer;
use crate::params::{Params, address};

/// Rows of a page that somebody looks at.
const ROWS: u32 = 50;
/// Most that an address may ask for where rows are drawn.
const MOST_ROWS: u32 = 200;
/// What was reported a moment ago is no orphan yet: a VM and its job are told one after the other.
const GRACE: &str = "1m";

/// Who the rows are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    Page,
    Program,
}

impl For {
    fn limit(self, params: &Params) -> Result<u32> {
        let most = if self == Self::Page {
            MOST_ROWS
        } else {
            limits::LARGEST_PAGE
        };
        params.limit(ROWS, most)
    }
}

fn order(params: &Params) -> Result<Order> {
    match params.one("order")? {
        None | Some("newest") => Ok(Order::NewestFirst),
        Some("oldest") => Ok(Order::OldestFirst),
        Some("id") => Ok(Order::ById),
        Some(_) => Err(persist::Error::invalid("order", "known are newest, oldest, id")),
    }
}

/// A time or an age of the address, which stays as it was typed.
pub(crate) fn range(params: &Params, clock: &dyn Clock) -> Result<TimeRange> {
    let bound = |name| {
        let text = params.one(name)?;
        let wrong = || persist::Error::invalid(name, "must be RFC 3339, or an age such as 30m, 2h, 7d");
        text.map(|text| span::moment(text, clock).map_err(|_| wrong()))
            .transpose()
    };
    Ok(TimeRange::new(bound("since")?, bound("until")?))
}

fn states<S: StateTable>(params: &Params) -> Result<Vec<S>> {
    params.words("state").map(S::parse).collect()
}

/// A filter with the address that says it.
#[derive(Debug)]
pub(crate) struct Filter<Q> {
    pub(crate) query: Q,
    path: &'static str,
    /// What the address says, but for the place in the list.
    pub(crate) said: Vec<(&'static str, String)>,
    pub(crate) after: Option<Cursor>,
}

impl<Q> Filter<Q> {
    fn new(path: &'static str, params: &Params, query: Q, names: &[&'static str]) -> Result<Self> {
        let mut said = Vec::new();
        for name in names {
            let words = params.words(name);
            match *name {
                "state" | "kind" => said.extend(words.map(|word| (*name, word.to_owned()))),
                name => said.extend(params.text(name)?.map(|text| (name, text))),
            }
        }
        Ok(Self {
            query,
            path,
            said,
            after: params.after()?,
        })
    }

    /// What a field of the form holds.
    pub(crate) fn field(&self, name: &str) -> String {
        let said = self.said.iter().find(|(of, _)| *of == name);
        said.map(|(_, text)| text.clone()).unwrap_or_default()
    }

    /// What of the address leaves rows out on purpose.
    fn narrowing(&self) -> impl Iterator<Item = &(&'static str, String)> {
        self.said
            .iter()
            .filter(|(name, _)| !matches!(*name, "limit" | "order"))
    }

    pub(crate) fn is_narrow(&self) -> bool {
        self.narrowing().next().is_some()
    }

    /// The same in words, above a form that stays closed: the rows come first.
    pub(crate) fn narrowed(&self) -> String {
        let words = self.narrowing().map(|(name, text)| match *name {
            "state" | "kind" => text.clone(),
            name => format!("{name} {text}"),
        });
        words.collect::<Vec<_>>().join(", ")
    }

    /// The address of this list from its beginning.
    pub(crate) fn beginning(&self) -> String {
        address(
            self.path,
            self.said.iter().map(|(name, text)| (*name, text.as_str())),
        )
    }

    /// The address of the next page.
    pub(crate) fn next(&self, after: &Cursor) -> String {
        let after = after.to_string();
        let said = self.said.iter().map(|(name, text)| (*name, text.as_str()));
        address(self.path, said.chain([("after", after.as_str())]))
    }
}

const OF_JOBS: [&str; 9] = [
    "state",
    "repo_url",
    "commit_sha",
    "runs_on",
    "since",
    "until",
    "order",
    "limit",
    "after",
];
const OF_VMS: [&str; 9] = [
    "state", "job", "name", "backend", "since", "until", "order", "limit", "after",
];
const OF_ORPHANS: [&str; 5] = ["kind", "actor", "grace", "limit", "after"];
const OF_REFUSALS: [&str; 3] = ["job", "limit", "after"];

pub(crate) fn jobs(query: Option<&str>, clock: &dyn Clock, rows: For) -> Answer<Filter<JobQuery>> {
    let params = Params::parse(query, &OF_JOBS)?;
    let mut asked = JobQuery::default()
        .states(states::<JobState>(&params)?)
        .created(range(&params, clock)?)
        .order(order(&params)?)
        .limit(rows.limit(&params)?)
        .after(params.after()?);
    if let Some(repo_url) = params.one("repo_url")? {
        asked = asked.repo_url(repo_url);
    }
    asked.commit_sha = params.text("commit_sha")?;
    asked.runs_on = params.text("runs_on")?;
    let mut filter = Filter::new("/", &params, asked.check()?, &OF_JOBS[..8])?;
    // As the store knows it: what was typed may hold credentials, and would stand in every link.
    for (name, text) in &mut filter.said {
        if *name == "repo_url" {
            *text = filter.query.repo_url.clone().unwrap_or_default();
        }
    }
    Ok(filter)
}

pub(crate) fn vms(query: Option<&str>, clock: &dyn Clock, rows: For) -> Answer<Filter<VmQuery>> {
    let params = Params::parse(query, &OF_VMS)?;
    let mut asked = VmQuery::default()
        .states(states::<VmState>(&params)?)
        .created(range(&params, clock)?)
        .order(order(&params)?)
        .limit(rows.limit(&params)?)
        .after(params.after()?);
    let wrong = |_| persist::Error::invalid("job", "must be the whole id of a job, a UUID");
    asked.request_id = params
        .one("job")?
        .map(|id| Uuid::try_parse(id).map_err(wrong))
        .transpose()?;
    asked.domain_name = params.text("name")?;
    asked.backend = params.text("backend")?;
    Ok(Filter::new("/vms", &params, asked.check()?, &OF_VMS[..8])?)
}

pub(crate) fn orphans(query: Option<&str>, rows: For) -> Answer<Filter<OrphanQuery>> {
    let params = Params::parse(query, &OF_ORPHANS)?;
    let kinds = params
        .words("kind")
        .map(OrphanKind::parse)
        .collect::<Result<Vec<_>>>()?;
    let wrong = |_| persist::Error::invalid("grace", "must be a span such as 30s, 5m, 2h, at most 24h");
    let grace = span::parse_span(params.one("grace")?.unwrap_or(GRACE)).map_err(wrong)?;
    let mut asked = OrphanQuery::default()
        .kinds(kinds)
        .grace(grace)
        .limit(rows.limit(&params)?)
        .after(params.after()?);
    asked.actor = params.text("actor")?;
    Ok(Filter::new(
        "/orphans",
        &params,
        asked.check()?,
        &OF_ORPHANS[..4],
    )?)
}

/// Refusals, and the id of a job or its beginning, of which the store knows whether it names one.
pub(crate) fn refusals(query: Option<&str>) -> Answer<(RefusalQuery, Option<String>)> {
    let params = Params::parse(query, &OF_REFUSALS)?;
    let asked = RefusalQuery::default()
        .limit(For::Program.limit(&params)?)
        .after(params.after()?);
    asked.check()?;
    Ok((asked, params.text("job")?))
}

/// All that seem to be left alone, to count them.
pub(crate) fn all_orphans(limit: u32) -> OrphanQuery {
    let grace = span::parse_span(GRACE).unwrap_or_default();
    OrphanQuery::default().grace(grace).limit(limit)
}

#[cfg(test)]
mod tests {
    use persist::SystemClock;

    use super::*;

    #[test]
    fn a_filter_keeps_its_address_and_no_credentials() {
        let query = "state=failed&state=lost&repo_url=https%3A%2F%2Fme%3Ahunter2%40git.example.org%2Fa.git&since=7d&after=";
        let filter = jobs(Some(query), &SystemClock, For::Page).unwrap();
        assert_eq!(filter.query.states, [JobState::Failed, JobState::Lost]);
        let address = "/?state=failed&state=lost&repo_url=https%3A%2F%2Fgit.example.org%2Fa.git&since=7d";
        assert_eq!(filter.beginning(), address);
        assert_eq!(filter.next(&Cursor::from_text("c")), format!("{address}&after=c"));
        assert!(filter.is_narrow());
        let told = "failed, lost, repo_url https://git.example.org/a.git, since 7d";
        assert_eq!(filter.narrowed(), told);
        assert!(!jobs(None, &SystemClock, For::Page).unwrap().is_narrow());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let told = |query: &str| match jobs(Some(query), &SystemClock, For::Page) {
            Err(failure) => (failure.status.as_u16(), failure.text),
            Ok(filter) => panic!("{filter:?}"),
        };
        for (query, field) in [
            ("state=gone", "state"),
            ("since=yesterday", "since"),
            ("commit_sha=xyz", "commit_sha"),
            ("after=damaged", "after"),
            ("limit=1001", "limit"),
            ("order=best", "order"),
            ("runs_on=a&runs_on=b", "runs_on"),
        ] {
            let (status, text) = told(query);
            assert_eq!(status, 400, "{query}");
            assert!(text.contains(field), "{query}: {text}");
        }
    }
}
