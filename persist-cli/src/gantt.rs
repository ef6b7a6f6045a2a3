//! A chart of phases for a terminal: a line for each attempt of the job and of its VMs, over one axis of time.

use chrono::TimeDelta;
use persist::{Attempt, Span, State, Timestamp};

use crate::span::human;
use crate::visible::visible;

/// The widest chart: longer lines tell no more.
const WIDEST: usize = 100;
/// Fewest columns that are worth a chart.
const NARROWEST: usize = 40;
/// Most lines; a job with more attempts is told by its timeline.
const MOST_LINES: usize = 40;
/// Columns of a label, at most.
const LABEL: usize = 24;

/// How phases are drawn: by 0 prepared or queued, 1 running, 2 what is over and not yet gone.
struct Ink {
    phases: [char; 3],
    /// It goes on.
    open: char,
}

const UNICODE: Ink = Ink {
    phases: ['░', '█', '▒'],
    open: '→',
};
const ASCII: Ink = Ink {
    phases: ['.', '#', '-'],
    open: '>',
};

/// The lines of the chart, none where there is nothing to draw. `now` is where open phases end.
pub(crate) fn lines(spans: &[Span], now: Timestamp, width: usize, unicode: bool) -> Vec<String> {
    let ends = spans.iter().map(|span| span.until.unwrap_or(now).max(span.from));
    let (Some(from), Some(until)) = (spans.iter().map(|span| span.from).min(), ends.max()) else {
        return Vec::new();
    };
    let rows = rows(spans);
    let width = width.min(WIDEST);
    if width < NARROWEST || rows.len() > MOST_LINES || until <= from {
        return Vec::new();
    }
    let ink = if unicode { UNICODE } else { ASCII };
    let labels: Vec<_> = rows.iter().map(|row| row.label(unicode)).collect();
    let label = labels
        .iter()
        .map(|label| label.chars().count())
        .max()
        .unwrap_or(0);
    let columns = width - label - 2;
    let whole = until - from;
    let place = |at: Timestamp| column(at - from, whole, columns);
    let mut lines: Vec<_> = rows
        .iter()
        .zip(&labels)
        .map(|(row, text)| {
            let mut bar = vec![' '; columns];
            for span in &row.spans {
                let begin = place(span.from).min(columns - 1);
                // What was short is seen all the same.
                let end = place(span.until.unwrap_or(now).max(span.from)).max(begin + 1);
                bar[begin..end].fill(ink.phases[phase(span.state)]);
                if span.until.is_none() {
                    bar[end - 1] = ink.open;
                }
            }
            let bar: String = bar.into_iter().collect();
            format!("{text:<label$}  {}", bar.trim_end())
        })
        .collect();
    let keys = ["waiting", "running", "over, not gone"];
    let keys: Vec<_> = keys
        .iter()
        .zip(ink.phases)
        .map(|(key, ink)| format!("{ink} {key}"))
        .collect();
    let all = format!("{} in all", human(whole));
    let legend = format!("{all}: {}", keys.join("  "));
    lines.push(if legend.chars().count() <= width {
        legend
    } else {
        all
    });
    lines
}

/// Between the first column and the last.
fn column(since: TimeDelta, whole: TimeDelta, columns: usize) -> usize {
    let micros = |span: TimeDelta| span.num_microseconds().unwrap_or(i64::MAX).max(0);
    let columns_wide = i128::try_from(columns).unwrap_or(0);
    let place = i128::from(micros(since)) * columns_wide / i128::from(micros(whole).max(1));
    usize::try_from(place).unwrap_or(columns).min(columns)
}

fn phase(state: State) -> usize {
    match state {
        State::Job(state) => usize::from(persist::StateTable::phase(state)),
        State::Vm(state) => usize::from(persist::StateTable::phase(state)),
    }
    .min(2)
}

/// A line: one attempt of the job, or of a VM.
struct Row<'s> {
    name: Option<&'s str>,
    attempt: Attempt,
    spans: Vec<&'s Span>,
}

impl Row<'_> {
    fn label(&self, unicode: bool) -> String {
        let name = self.name.map_or_else(|| "job".into(), visible);
        let text = if self.attempt.get() == 1 {
            name.into_owned()
        } else {
            format!("{name} #{}", self.attempt)
        };
        if text.chars().count() <= LABEL {
            return text;
        }
        let cut: String = text.chars().take(LABEL - 1).collect();
        format!("{cut}{}", if unicode { '…' } else { '~' })
    }
}

/// In the order in which they began.
fn rows(spans: &[Span]) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for span in spans {
        let name = span.domain_name.as_deref();
        match rows
            .iter_mut()
            .find(|row| row.name == name && row.attempt == span.attempt)
        {
            Some(row) => row.spans.push(span),
            None => rows.push(Row {
                name,
                attempt: span.attempt,
                spans: vec![span],
            }),
        }
    }
    rows
}

/// Whether the terminal shows more than ASCII, as its locale says.
pub(crate) fn is_unicode() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(std::env::var_os)
        .find(|value| !value.is_empty());
    set.is_some_and(|value| {
        let value = value.to_string_lossy().to_ascii_lowercase();
        value.contains("utf-8") || value.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use persist::{
        Event, JobState, JobUpdate, Seq, Slot, Story, SystemClock, Update, VmState, VmUpdate, time,
    };
    use uuid::Uuid;

    fn at(seconds: i64) -> Timestamp {
        time::from_micros(1_793_520_000_000_000 + seconds * 1_000_000).unwrap()
    }

    fn id() -> Uuid {
        Uuid::from_u128(7)
    }

    fn job(seconds: i64, attempt: u32, state: JobState) -> Update {
        JobUpdate::new(id(), state)
            .attempt(attempt)
            .at(at(seconds))
            .into()
    }

    fn vm(seconds: i64, name: &str, state: VmState) -> Update {
        VmUpdate::new(id(), name, state).at(at(seconds)).into()
    }

    fn of(updates: Vec<Update>) -> Vec<Span> {
        let event = |update: Update| {
            let claim = update.check(&SystemClock).unwrap();
            let slot = Slot::claimed_by(&claim);
            Event::new(Seq::new(1), at(0), claim.subject().clone(), slot)
        };
        Story::of(id(), updates.into_iter().map(event).collect(), None)
            .unwrap()
            .spans
    }

    #[test]
    fn phases_are_drawn_to_scale_with_and_without_unicode() {
        let spans = of(vec![
            job(0, 1, JobState::Queued),
            job(25, 1, JobState::Running),
            job(75, 1, JobState::Failed),
            job(80, 2, JobState::Queued),
            vm(20, "vm-7", VmState::Prepared),
            vm(25, "vm-7", VmState::Running),
            vm(75, "vm-7", VmState::Stopped),
            vm(90, "vm-7", VmState::Destroyed),
        ]);
        let drawn = lines(&spans, at(100), 48, false);
        assert_eq!(
            drawn,
            [
                "job     ..........####################",
                "vm-7            ..####################------",
                "job #2                                  .......>",
                "1 min 40 s in all",
            ]
        );
        let legend = "1 min 40 s in all: . waiting  # running  - over, not gone";
        assert_eq!(lines(&spans, at(100), 60, false).last().unwrap(), legend);
        let drawn = lines(&spans, at(100), 48, true);
        assert_eq!(drawn[0], "job     ░░░░░░░░░░████████████████████");
        assert!(drawn[2].ends_with('→'), "{drawn:?}");
    }

    #[test]
    fn what_is_short_is_seen_and_what_does_not_fit_is_left_out() {
        let short = of(vec![
            job(0, 1, JobState::Queued),
            job(1, 1, JobState::Running),
            job(10_000, 1, JobState::Succeeded),
            vm(
                9_999,
                "a-vm-whose-name-is-much-too-long-for-a-chart",
                VmState::Running,
            ),
            vm(
                10_000,
                "a-vm-whose-name-is-much-too-long-for-a-chart",
                VmState::Destroyed,
            ),
        ]);
        let drawn = lines(&short, at(0), 80, false);
        assert!(drawn[1].starts_with("a-vm-whose-name-is-much~  "), "{drawn:?}");
        assert!(drawn[1].ends_with(" #"), "{drawn:?}");
        assert!(drawn.iter().all(|line| line.len() <= 80), "{drawn:?}");
        assert_eq!(lines(&short, at(0), 39, false), [""; 0]);
        assert_eq!(lines(&[], at(0), 80, false), [""; 0]);
        let instant = of(vec![job(5, 1, JobState::Queued)]);
        assert_eq!(lines(&instant, at(5), 80, false), [""; 0]);
    }
}
