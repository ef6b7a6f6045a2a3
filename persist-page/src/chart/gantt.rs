//! The phases of a job and its VMs over one axis of time.

use chrono::TimeDelta;
use persist::shown::span::human;
use persist::{Attempt, Run, Span, State, StateTable, Story, Timestamp};

use super::share;
use crate::shown::Badge;

/// Most lines: a job with more of them is told by its history.
const MOST_LINES: usize = 60;
/// Pixels from line to line: a text above its bar.
const LINE: usize = 38;
/// Pixels of the axis above the lines.
const AXIS: usize = 24;
/// Letters of a VM's name; the whole of it is in the history.
const LONGEST_NAME: usize = 32;
/// What was short is seen all the same.
const NARROWEST: f64 = 0.4;

/// A chart that is ready to be drawn.
#[derive(Debug)]
pub(crate) struct Gantt {
    pub(crate) lines: Vec<Line>,
    pub(crate) ticks: Vec<Tick>,
    pub(crate) height: usize,
    /// The whole time.
    pub(crate) whole: String,
    /// Lines that are left out.
    pub(crate) left_out: usize,
    /// Whether something goes on.
    pub(crate) is_open: bool,
}

/// One attempt of the job or of a VM.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) is_job: bool,
    /// The class of what there is no room for beside it in a narrow window.
    pub(crate) fit: &'static str,
    pub(crate) text_y: usize,
    pub(crate) bar_y: usize,
    pub(crate) bars: Vec<Bar>,
    /// Its state.
    pub(crate) state: &'static str,
    /// How long it took.
    pub(crate) lasted: String,
}

#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) x: f64,
    pub(crate) width: f64,
    /// The class of its phase.
    pub(crate) class: &'static str,
    pub(crate) is_open: bool,
    /// For who points at it, and for who hears the page.
    pub(crate) title: String,
}

/// A time of the axis.
#[derive(Debug)]
pub(crate) struct Tick {
    pub(crate) x: f64,
    pub(crate) text: String,
    pub(crate) anchor: &'static str,
    /// Left out where there is little room.
    pub(crate) is_minor: bool,
}

impl Gantt {
    /// The chart of a story, or `None` where there is nothing to draw. `now` is where open phases end.
    pub(crate) fn of(story: &Story, now: Timestamp) -> Option<Self> {
        let spans = &story.spans;
        let end = |span: &Span| span.until.unwrap_or(now).max(span.from);
        let from = spans.iter().map(|span| span.from).min()?;
        let until = spans.iter().map(end).max()?;
        let whole = until - from;
        if whole <= TimeDelta::zero() {
            return None;
        }
        let mut lines: Vec<(Option<&str>, Attempt, Vec<&Span>)> = Vec::new();
        for span in spans {
            let name = span.domain_name.as_deref();
            match lines
                .iter_mut()
                .find(|(of, attempt, _)| *of == name && *attempt == span.attempt)
            {
                Some((_, _, spans)) => spans.push(span),
                None => lines.push((name, span.attempt, vec![span])),
            }
        }
        let left_out = lines.len().saturating_sub(MOST_LINES);
        lines.truncate(MOST_LINES);
        let micros = |span: TimeDelta| span.num_microseconds().unwrap_or(i64::MAX);
        let place = |at: Timestamp| share(micros(at - from), micros(whole));
        let bar = |span: &Span| {
            let x = place(span.from).min(100.0 - NARROWEST);
            let until = end(span);
            let exact = |at: Timestamp| at.format("%H:%M:%S").to_string();
            let upto = if span.until.is_some() {
                exact(until)
            } else {
                "now".to_owned()
            };
            Bar {
                x,
                width: (place(until) - x).max(NARROWEST),
                class: phase(span.state),
                is_open: span.until.is_none(),
                title: format!(
                    "{} for {}, {} to {upto}",
                    span.state.name(),
                    human(until - span.from),
                    exact(span.from)
                ),
            }
        };
        let lines = lines.iter().enumerate();
        let lines: Vec<_> = lines
            .map(|(n, (name, attempt, spans))| {
                let run = story
                    .attempts
                    .iter()
                    .find(|run| name.is_none() && run.attempt == *attempt);
                let (state, lasted) = run.map_or_else(|| of_vm(spans, now), of_job);
                let name_shown = label(*name, *attempt);
                Line {
                    fit: fit(&name_shown, state, &lasted),
                    name: name_shown,
                    is_job: name.is_none(),
                    text_y: AXIS + n * LINE + 13,
                    bar_y: AXIS + n * LINE + 18,
                    bars: spans.iter().map(|span| bar(span)).collect(),
                    state,
                    lasted,
                }
            })
            .collect();
        Some(Self {
            height: AXIS + lines.len() * LINE + 4,
            lines,
            ticks: ticks(whole),
            whole: human(whole),
            left_out,
            is_open: spans.iter().any(|span| span.until.is_none()),
        })
    }
}

fn label(name: Option<&str>, attempt: Attempt) -> String {
    let Some(name) = name else {
        return format!("job, attempt {attempt}");
    };
    let mut label: String = name.chars().take(LONGEST_NAME).collect();
    if label.len() < name.len() {
        label.push('…');
    }
    if attempt.get() > 1 {
        label.push_str(&format!(", start {attempt}"));
    }
    label
}

/// By the width of letters, in tenths of a pixel, and of the chart on a telephone.
fn fit(name: &str, state: &str, lasted: &str) -> &'static str {
    let has_room = |beside: usize| name.chars().count() * 75 + beside * 56 <= 3_000;
    let state = state.chars().count();
    if has_room(state + lasted.chars().count()) {
        ""
    } else if has_room(state) {
        "tight"
    } else {
        "long"
    }
}

fn of_job(run: &Run) -> (&'static str, String) {
    let waited = run.waited.map(|waited| format!(" · waited {}", human(waited)));
    let ran = run.ran.map(|ran| format!(" · ran {}", human(ran)));
    (
        run.state.name(),
        waited.unwrap_or_default() + &ran.unwrap_or_default(),
    )
}

fn of_vm(spans: &[&Span], now: Timestamp) -> (&'static str, String) {
    let Some(last) = spans.last() else {
        return ("", String::new());
    };
    let state = last.then.unwrap_or(last.state);
    let ran = spans.iter().find(|span| phase(span.state) == "runs");
    let ran = ran.map(|span| format!(" · ran {}", human(span.until.unwrap_or(now) - span.from)));
    (state.name(), ran.unwrap_or_default())
}

fn phase(state: State) -> &'static str {
    let phase = match state {
        State::Job(state) => state.phase(),
        State::Vm(state) => state.phase(),
    };
    match phase {
        0 => "waits",
        1 => "runs",
        // What is over and not yet gone, in the colour of how it ended where that was badly.
        _ if Badge::new(state).class == "bad" => "bad",
        _ => "over",
    }
}

fn ticks(whole: TimeDelta) -> Vec<Tick> {
    let text = |quarter| format!("+{}", human(whole * quarter / 4));
    [
        (0, "start"),
        (1, "middle"),
        (2, "middle"),
        (3, "middle"),
        (4, "end"),
    ]
    .into_iter()
    .map(|(quarter, anchor)| Tick {
        x: f64::from(quarter) * 25.0,
        text: if quarter == 0 {
            "0".to_owned()
        } else {
            text(quarter)
        },
        anchor,
        is_minor: quarter % 2 == 1,
    })
    .collect()
}
