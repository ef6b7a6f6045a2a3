//! `persist doctor`: what of a store is not as it should be, why that matters, and what mends it.

use clap::Args;
use persist::{Error, ErrorKind, Finding, Inspect, PersistBackend, Severity};
use serde::Serialize;

use crate::args::Format;
use crate::context::Context;
use crate::exit::{Code, Failure, unless_unread, with_causes};
use crate::talk;
use crate::visible::{visible, visible_lines};

pub(crate) const AFTER_HELP: &str = "\
Exit code: 0 where nothing is above info, 1 where a warning or an error is left; 5 and 6 as everywhere. \
A look changes nothing, and a SQLite file is opened to read. --fix runs only what loses nothing and holds nobody up \
for long; it looks again before each, and once more at the end. All else is for a person to run, after a look at why.

Examples:
  persist doctor
  persist doctor --fix
  persist --format jsonl doctor | jq -r 'select(.severity != \"info\") | .mend[]'";

/// Looking once more after something was mended finds what could not be mended before it: an index of a missing column.
const ROUNDS: usize = 4;

#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// Mend what can be mended safely, and look again
    #[arg(long)]
    fix: bool,
}

/// A finding, and whether it was just mended.
#[derive(Serialize)]
struct Told<'f> {
    #[serde(flatten)]
    finding: &'f Finding,
    mended: bool,
}

/// What mending came to.
#[derive(Default)]
struct Mended {
    findings: Vec<Finding>,
    /// The first that went wrong with what is still so.
    error: Option<Error>,
}

pub(crate) async fn run(args: DoctorArgs, context: &mut Context) -> Result<Code, Failure> {
    let mut findings = look(context).await?;
    let mut mended = Mended::default();
    if args.fix && findings.iter().any(|finding| finding.is_safe) {
        mended = mend(&findings, context).await?;
        findings = look(context).await?;
    }
    unless_unread(print(&mended.findings, &findings, context))?;
    let is_well = findings.iter().all(|finding| finding.severity == Severity::Info);
    Ok(match mended.error {
        Some(error) => error.kind().into(),
        None if is_well => Code::Ok,
        None => Code::Failed,
    })
}

async fn look(context: &Context) -> Result<Vec<Finding>, Failure> {
    let backend = context.database.as_it_is().await?;
    let findings = inspect_of(&*backend)?.findings().await?;
    backend.close().await?;
    Ok(findings)
}

fn inspect_of(backend: &dyn PersistBackend) -> Result<&dyn Inspect, Error> {
    backend.inspect().ok_or_else(|| {
        let what = format!(
            "in the {} backend there is nothing to be looked over",
            backend.name()
        );
        Error::new(ErrorKind::Unsupported, what).during("doctor")
    })
}

/// Mends all that is safe. `before` is what a look that changes nothing has found.
async fn mend(before: &[Finding], context: &Context) -> Result<Mended, Failure> {
    let backend = context.database.existing(persist::Deadlines::default()).await?;
    let mended = mend_by(inspect_of(&*backend)?, before).await;
    backend.close().await?;
    Ok(mended?)
}

async fn mend_by(inspect: &dyn Inspect, before: &[Finding]) -> Result<Mended, Error> {
    let mut mended = Mended::default();
    let mut now = inspect.findings().await?;
    let is_in = |finding: &Finding, all: &[Finding]| all.iter().any(|other| finding.is_same(other));
    // Whoever opens the store to write sets its journal right by that.
    let by_opening = before
        .iter()
        .filter(|finding| finding.is_safe && !is_in(finding, &now));
    mended.findings.extend(by_opening.cloned());
    let mut tried = Vec::new();
    let mut errors: Vec<(String, Error)> = Vec::new();
    for _ in 0..ROUNDS {
        let todo: Vec<_> = now
            .iter()
            .filter(|finding| finding.is_safe && !is_in(finding, &tried))
            .cloned()
            .collect();
        if todo.is_empty() {
            break;
        }
        for finding in todo {
            let bar = talk::spinner("mending");
            let done = inspect.mend(&finding).await;
            bar.finish_and_clear();
            tried.push(finding.clone());
            match done {
                Ok(()) => mended.findings.push(finding),
                // What mended another one has mended this one too.
                Err(error) if error.kind() == ErrorKind::InvalidInput => mended.findings.push(finding),
                Err(error) => {
                    talk::say(&format!(
                        "{} could not be mended: {}",
                        finding.place,
                        with_causes(&error)
                    ));
                    let is_final = matches!(error.kind(), ErrorKind::Auth | ErrorKind::ReadOnly);
                    errors.push((finding.place, error));
                    if is_final {
                        mended.error = errors.into_iter().next().map(|(_, error)| error);
                        return Ok(mended);
                    }
                }
            }
        }
        now = inspect.findings().await?;
    }
    // Only what is gone was mended.
    mended.findings.retain(|finding| !is_in(finding, &now));
    // What could not be mended in one round may have been in another.
    let is_left = |place: &str| now.iter().any(|finding| finding.place == place);
    let mut left = errors.into_iter().filter(|(place, _)| is_left(place));
    mended.error = left.next().map(|(_, error)| error);
    Ok(mended)
}

fn print(mended: &[Finding], findings: &[Finding], context: &mut Context) -> Result<(), Failure> {
    let told = |finding, mended| Told { finding, mended };
    let all = mended.iter().map(|finding| told(finding, true));
    let all: Vec<_> = all
        .chain(findings.iter().map(|finding| told(finding, false)))
        .collect();
    match context.format {
        Format::Table => {
            for told in &all {
                for line in lines(told) {
                    context.out.line(&line)?;
                }
            }
            context.out.line(&count(&all))?;
        }
        Format::Json => context.out.json(&all)?,
        Format::Jsonl => {
            for told in &all {
                context.out.json(told)?;
            }
        }
    }
    Ok(context.out.flush()?)
}

fn lines(told: &Told<'_>) -> Vec<String> {
    let finding = told.finding;
    let lead = if told.mended {
        "mended"
    } else {
        finding.severity.name()
    };
    let mut lines = vec![format!(
        "{lead:<7}  {}: {}",
        visible(&finding.place),
        visible(&finding.what)
    )];
    if told.mended {
        return lines;
    }
    lines.push(format!("         why:  {}", visible(&finding.why)));
    for (n, statement) in finding.mend.iter().enumerate() {
        let lead = if n == 0 { "mend: " } else { "" };
        lines.push(format!(
            "         {lead:<6}{}",
            visible_lines(statement).replace('\n', "\n               ")
        ));
    }
    if finding.is_safe {
        lines.push("               (--fix does it)".to_owned());
    }
    lines
}

/// `1 error, 2 warnings, 1 note`
fn count(all: &[Told<'_>]) -> String {
    let of = |severity| {
        all.iter()
            .filter(|told| !told.mended && told.finding.severity == severity)
            .count()
    };
    let words = [
        (of(Severity::Error), "error"),
        (of(Severity::Warning), "warning"),
        (of(Severity::Info), "note"),
    ]
    .map(|(count, word)| format!("{count} {word}{}", if count == 1 { "" } else { "s" }));
    let mended = all.iter().filter(|told| told.mended).count();
    let mended = if mended > 0 {
        format!("; {mended} mended")
    } else {
        String::new()
    };
    format!("{}{mended}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_finding_is_a_line_and_what_explains_it() {
        let finding = Finding::new(
            "missing_index",
            "jobs\u{1b}_live",
            Severity::Warning,
            "the index is missing",
            "reads are slow",
        )
        .mended_by(["DROP INDEX x", "CREATE INDEX x\non y"])
        .safe();
        let told = |mended| Told {
            finding: &finding,
            mended,
        };
        assert_eq!(
            lines(&told(false)),
            [
                "warning  jobs\\u{1b}_live: the index is missing",
                "         why:  reads are slow",
                "         mend: DROP INDEX x",
                "               CREATE INDEX x\n               on y",
                "               (--fix does it)",
            ]
        );
        assert_eq!(
            lines(&told(true)),
            ["mended   jobs\\u{1b}_live: the index is missing"]
        );
        assert_eq!(
            count(&[told(true), told(false)]),
            "0 errors, 1 warning, 0 notes; 1 mended"
        );
        assert_eq!(count(&[]), "0 errors, 0 warnings, 0 notes");
    }

    /// Two faults of one table, of which mending the second also mends the first: as where a table is made anew.
    #[derive(Debug)]
    struct Scripted {
        looks: Mutex<VecDeque<Vec<Finding>>>,
    }

    #[async_trait::async_trait]
    impl Inspect for Scripted {
        async fn findings(&self) -> Result<Vec<Finding>, Error> {
            Ok(self.looks.lock().unwrap().pop_front().unwrap_or_default())
        }

        async fn mend(&self, finding: &Finding) -> Result<(), Error> {
            if finding.mend == ["busy"] {
                return Err(Error::new(ErrorKind::Busy, "somebody writes"));
            }
            Ok(())
        }
    }

    fn at(place: &str, mend: &str) -> Finding {
        let finding = Finding::new("wrong_check", place, Severity::Error, "", "");
        finding.mended_by([mend]).safe()
    }

    #[tokio::test]
    async fn an_error_is_forgotten_once_what_it_left_is_mended() {
        let mended_by = |looks: &[&[Finding]]| {
            let looks = looks.iter().map(|look| look.to_vec()).collect();
            Scripted {
                looks: Mutex::new(looks),
            }
        };
        let first = [at("jobs", "busy"), at("vms", "done")];
        let later = mended_by(&[&first, &[at("jobs", "done")], &[]]);
        let mended = mend_by(&later, &[]).await.unwrap();
        assert!(mended.error.is_none(), "{:?}", mended.error);
        assert_eq!(mended.findings.len(), 2, "{:?}", mended.findings);
        let never = mended_by(&[&first, &[at("jobs", "busy")]]);
        let mended = mend_by(&never, &[]).await.unwrap();
        assert_eq!(mended.error.map(|error| error.kind()), Some(ErrorKind::Busy));
    }
}
