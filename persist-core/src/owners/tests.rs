use super::*;

#[test]
fn a_heartbeat_is_checked_and_cut_to_microseconds() {
    let beat = Heartbeat::new("me", 1).valid_for(Duration::from_nanos(100_000_999));
    assert_eq!(beat.check().unwrap().valid_for, Duration::from_millis(100));
    let wrong = [
        (Heartbeat::new("", 1), "actor"),
        (Heartbeat::new("x".repeat(129), 1), "actor"),
        (Heartbeat::new("a\0b", 1), "actor"),
        (Heartbeat::new("me", 1 << 63), "epoch"),
        (
            Heartbeat::new("me", 1).valid_for(Duration::from_millis(99)),
            "valid_for",
        ),
        (
            Heartbeat::new("me", 1).valid_for(Duration::from_secs(86_401)),
            "valid_for",
        ),
    ];
    for (beat, field) in wrong {
        assert_eq!(
            beat.check().unwrap_err().context("field"),
            Some(field),
            "{beat:?}"
        );
    }
    assert!(Heartbeat::new("x".repeat(128), (1 << 63) - 1).check().is_ok());
    assert_eq!(beat.overtaken().context("field"), Some("epoch"));
}

#[test]
fn an_owner_sees_to_what_was_recorded_since_its_start_until_its_beat_is_too_old() {
    let at = |second: i64| time::from_micros(second * 1_000_000).unwrap();
    let owner = |now| Owner::new("me".into(), 1, at(10), at(20), at(30), at(now));
    assert!(owner(29).sees_to(at(10)) && owner(29).sees_to(at(25)));
    assert!(!owner(29).sees_to(at(9)), "it started anew since");
    assert!(!owner(30).alive && !owner(30).sees_to(at(10)), "its beat is over");
}
