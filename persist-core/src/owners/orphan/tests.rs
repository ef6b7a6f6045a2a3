use crate::VmKey;

use super::*;

fn orphan() -> Orphan {
    let subject = Subject::Vm(VmKey::new(Uuid::from_u128(7), "vm-7"));
    let kinds = OrphanKind::of([true, true, false]);
    let recorded_at = time::from_micros(1_000_001).unwrap();
    let state = State::from_name(true, "running").unwrap();
    Orphan::new(
        subject,
        state,
        Attempt::FIRST,
        kinds,
        Some("me".into()),
        recorded_at,
    )
}

#[test]
fn an_orphan_is_serialised_by_the_names_of_the_columns_and_back() {
    let json = serde_json::to_value(orphan()).unwrap();
    let expected = serde_json::json!({
        "request_id": "00000000-0000-0000-0000-000000000007", "domain_name": "vm-7", "state": "running", "attempt": 1,
        "kinds": ["owner_gone", "vm_without_job"], "actor": "me", "recorded_at": "1970-01-01T00:00:01.000001Z"
    });
    assert_eq!(json, expected);
    assert_eq!(serde_json::from_value::<Orphan>(json.clone()).unwrap(), orphan());
    let mut of_a_job = json;
    of_a_job["domain_name"] = serde_json::Value::Null;
    of_a_job["state"] = "prepared".into();
    let error = serde_json::from_value::<Orphan>(of_a_job).unwrap_err();
    assert!(error.to_string().contains("state"), "{error}");
}

#[test]
fn kinds_are_told_by_their_words() {
    for kind in OrphanKind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        let shouted = kind.name().to_ascii_uppercase().replace('_', "-");
        assert_eq!(OrphanKind::parse(&shouted).unwrap(), kind);
    }
    let error = OrphanKind::parse("lost").unwrap_err();
    assert!(error.message().contains("owner_gone, vm_without_job"), "{error}");
}

#[test]
fn a_query_is_checked_and_normalised() {
    let query = OrphanQuery::default()
        .kinds([
            OrphanKind::JobWithoutVm,
            OrphanKind::OwnerGone,
            OrphanKind::JobWithoutVm,
        ])
        .actor("")
        .grace(Duration::from_nanos(1_999));
    let checked = query.check().unwrap();
    assert_eq!(checked.kinds, [OrphanKind::OwnerGone, OrphanKind::JobWithoutVm]);
    assert_eq!(
        (checked.actor, checked.grace),
        (None, Duration::from_nanos(1_000))
    );
    let wrong = [
        (OrphanQuery::default().limit(0), "limit"),
        (OrphanQuery::default().actor("x".repeat(129)), "actor"),
        (OrphanQuery::default().grace(Duration::from_secs(86_401)), "grace"),
        (
            OrphanQuery::default().after(Some(Cursor::from_text("x"))),
            "after",
        ),
    ];
    for (query, field) in wrong {
        assert_eq!(query.check().unwrap_err().context("field"), Some(field));
    }
}

#[test]
fn a_cursor_leads_behind_its_orphan_and_no_other_does() {
    let query = OrphanQuery::default();
    let next = query.clone().after(Some(query.cursor(&orphan())));
    assert_eq!(next.position().unwrap(), Some(orphan().subject));
    let foreign = Cursor::encode(&Position::EventKey(Uuid::from_u128(7), "vm-7".into(), 4));
    let error = query.after(Some(foreign)).check().unwrap_err();
    assert_eq!(error.context("field"), Some("after"));
}

#[test]
fn a_query_wants_what_has_any_of_its_kinds() {
    let all = OrphanQuery::default();
    let gone = all.clone().kinds([OrphanKind::OwnerGone]);
    let both = OrphanKind::of([true, false, true]);
    assert!(all.wants(&both) && gone.wants(&both));
    assert!(!all.wants(&[]) && !gone.wants(&[OrphanKind::JobWithoutVm]));
}
