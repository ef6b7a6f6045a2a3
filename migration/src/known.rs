//! What the records of a database mean to whoever looks it over.

use persist_core::inspect::code;
use persist_core::{Finding, Severity, Timestamp};
use uuid::Uuid;

use crate::VERSION;
use crate::migration::Migration;
use crate::records::{Record, Records};

/// The command that applies what is pending.
const UP: &str = "persist migrate up";

/// Whether a migration is pending that the program can't do without.
pub fn lacks_needed(records: &Records, known: &[Migration]) -> bool {
    records.pending(known).any(|migration| !migration.optional)
}

/// The records of a store that can't tell its own: as if every migration were applied, so that the rest is held against the
/// newest.
pub fn as_if_whole(known: &[Migration]) -> Records {
    let record = |migration: &Migration| Record {
        name: migration.name.to_owned(),
        applied_at: Timestamp::default(),
    };
    Records {
        applied: known.iter().map(record).collect(),
        ..Records::default()
    }
}

/// Pending migrations, and those of a newer program.
pub fn findings(records: &Records, known: &[Migration]) -> Vec<Finding> {
    let pending = records.pending(known).map(|migration| {
        let (severity, why) = if migration.optional {
            (
                Severity::Warning,
                "the store works, slower than it could or without what this brings",
            )
        } else {
            (Severity::Error, "this program can't use the store before it")
        };
        let what = "the migration is not applied";
        Finding::new(code::PENDING_MIGRATION, migration.name, severity, what, why).mended_by([UP])
    });
    let mut findings: Vec<_> = pending.collect();
    let is_usable = records.check_writer(known).is_ok();
    let newer = records.newer(known).map(|record| {
        let (severity, why) = if is_usable {
            (Severity::Info, "this program can use the store all the same")
        } else {
            (
                Severity::Error,
                "this program is too old for the store: upgrade it",
            )
        };
        let what = "a newer program has applied this migration";
        Finding::new(code::NEWER_SCHEMA, record.name.clone(), severity, what, why)
    });
    findings.extend(newer);
    findings
}

/// Leaves to a person what this program would mend in a schema that a newer one has changed: what differs may be what the newer
/// one needs, such as a check that lets in a state of its own.
pub fn leave_to_newer(records: &Records, known: &[Migration], findings: &mut [Finding]) {
    if records.newer(known).next().is_none() {
        return;
    }
    for finding in findings {
        finding.is_safe = false;
        finding
            .why
            .push_str("; or a newer program has made it so: ask that one's doctor");
    }
}

/// The facts of `persist_meta` that both databases keep; nothing is said of what mends them.
pub fn facts(identity: Option<&str>, records: &Records) -> Vec<Finding> {
    let mut findings = Vec::new();
    let why = "spools and those who read along know the store by it; with a new one spools refuse to replay into it: if \
               the old one is known, from a backup or an error of a spool, bring that back";
    let what = match identity {
        None => Some((code::META_MISSING, "the identity of the store is missing")),
        Some(text) if text.parse::<Uuid>().is_ok_and(|id| !id.is_nil()) => None,
        Some(_) => Some((code::META_WRONG, "the identity of the store is no UUID")),
    };
    if let Some((code, what)) = what {
        findings.push(Finding::new(
            code,
            "persist_meta.instance_id",
            Severity::Error,
            what,
            why,
        ));
    }
    for (key, said) in [
        ("min_reader", records.min_reader),
        ("min_writer", records.min_writer),
    ] {
        if said.is_some() {
            continue;
        }
        let what = "the oldest program that may use the store is not told";
        let why = "a program that is too old can't tell that it is";
        let statement = format!(
            "INSERT INTO persist_meta (key, value) VALUES ('{key}', '{NEEDED}') \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        );
        let finding = Finding::new(
            code::META_MISSING,
            format!("persist_meta.{key}"),
            Severity::Warning,
            what,
            why,
        );
        findings.push(finding.mended_by([statement]));
    }
    findings
}

/// What the history's migration has written there.
const NEEDED: u32 = 4;
const _: () = assert!(NEEDED <= VERSION);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list;
    use persist_core::sql::Dialect;
    use persist_core::time;

    fn records(names: &[&str]) -> Records {
        let record = |name: &&str| Record {
            name: (*name).to_owned(),
            applied_at: time::from_micros(0).unwrap(),
        };
        Records {
            applied: names.iter().map(record).collect(),
            min_reader: Some(4),
            min_writer: Some(4),
            ..Records::default()
        }
    }

    #[test]
    fn what_is_optional_is_a_warning_and_what_is_needed_an_error() {
        let known = list(Dialect::Sqlite);
        let names: Vec<_> = known.iter().map(|migration| migration.name).collect();
        assert_eq!(findings(&records(&names), &known), []);
        let told = findings(&records(&names[..3]), &known);
        let severities: Vec<_> = told.iter().map(|finding| finding.severity).collect();
        assert_eq!(severities.len(), names.len() - 3);
        assert_eq!(
            (severities[0], severities[1]),
            (Severity::Error, Severity::Warning)
        );
        assert!(
            told.iter()
                .all(|finding| finding.mend == [UP] && !finding.is_safe)
        );
        assert!(lacks_needed(&records(&names[..3]), &known) && !lacks_needed(&records(&names[..4]), &known));
    }

    #[test]
    fn a_newer_schema_is_worse_where_it_wants_a_newer_program() {
        let known = list(Dialect::Sqlite);
        let mut names: Vec<_> = known.iter().map(|migration| migration.name).collect();
        names.push("m9");
        let mut records = records(&names);
        assert_eq!(findings(&records, &known)[0].severity, Severity::Info);
        records.min_reader = Some(VERSION + 1);
        assert_eq!(findings(&records, &known)[0].severity, Severity::Error);
    }

    #[test]
    fn nothing_is_safe_to_mend_beside_a_newer_program() {
        let known = list(Dialect::Sqlite);
        let mut names: Vec<_> = known.iter().map(|migration| migration.name).collect();
        let finding = Finding::new(
            code::WRONG_CHECK,
            "vms_state",
            Severity::Error,
            "wider",
            "refuses",
        )
        .safe();
        let mut told = [finding.clone()];
        leave_to_newer(&records(&names), &known, &mut told);
        assert_eq!(told[0], finding);
        names.push("m9");
        leave_to_newer(&records(&names), &known, &mut told);
        assert!(!told[0].is_safe && told[0].why.starts_with("refuses; or a newer program"));
    }

    #[test]
    fn a_store_without_identity_is_an_error() {
        let records = records(&[]);
        let id = Uuid::from_u128(7).to_string();
        assert_eq!(facts(Some(&id), &records), []);
        for (identity, code) in [
            (None, code::META_MISSING),
            (Some("x"), code::META_WRONG),
            (Some("00000000-0000-0000-0000-000000000000"), code::META_WRONG),
        ] {
            assert_eq!(facts(identity, &records)[0].code, code);
        }
        assert_eq!(facts(Some(&id), &Records::default()).len(), 2);
    }
}
