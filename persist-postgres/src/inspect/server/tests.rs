use super::*;
use persist_core::time;

fn server() -> Server {
    Server {
        version: 150_018,
        commit: None,
        fsync: true,
        full_pages: true,
        autovacuum: true,
        isolation: None,
        used: 80,
        room: 100,
        encrypted: true,
        may_create: false,
        is_superuser: false,
    }
}

fn told(server: &Server) -> Vec<(String, Severity)> {
    let told = judge(server);
    told.into_iter()
        .map(|finding| (finding.code, finding.severity))
        .collect()
}

#[test]
fn a_server_as_it_should_be_is_not_told_of() {
    assert_eq!(told(&server()), []);
}

#[test]
fn each_fault_of_a_server_has_its_own_word() {
    use Severity::{Error, Info, Warning};
    for (server, code, severity) in [
        (
            Server {
                version: 130_000,
                ..server()
            },
            code::SERVER_VERSION,
            Info,
        ),
        (
            Server {
                version: 190_000,
                ..server()
            },
            code::SERVER_VERSION,
            Info,
        ),
        (
            Server {
                commit: Some("off".into()),
                ..server()
            },
            code::NOT_DURABLE,
            Warning,
        ),
        (
            Server {
                fsync: false,
                ..server()
            },
            code::NOT_DURABLE,
            Error,
        ),
        (
            Server {
                full_pages: false,
                ..server()
            },
            code::NOT_DURABLE,
            Error,
        ),
        (
            Server {
                autovacuum: false,
                ..server()
            },
            code::VACUUM_OVERDUE,
            Warning,
        ),
        (
            Server {
                isolation: Some("serializable".into()),
                ..server()
            },
            code::ISOLATION,
            Warning,
        ),
        (Server { used: 81, ..server() }, code::CONNECTIONS, Warning),
        (
            Server {
                may_create: true,
                ..server()
            },
            code::ROLE_RIGHTS,
            Info,
        ),
        (
            Server {
                is_superuser: true,
                may_create: true,
                ..server()
            },
            code::ROLE_RIGHTS,
            Info,
        ),
    ] {
        assert_eq!(told(&server), [(code.to_owned(), severity)], "{server:?}");
    }
    for commit in ["on", "remote_apply", "remote_write"] {
        assert_eq!(
            told(&Server {
                commit: Some(commit.into()),
                ..server()
            }),
            [],
            "{commit}"
        );
    }
}

#[test]
fn plain_text_that_leaves_the_machine_is_warned_of() {
    use PgSslMode::{Disable, Prefer, Require, VerifyCa, VerifyFull};
    let told = |host: &str, mode, pooler, encrypted| {
        let way = Way {
            host: host.to_owned(),
            mode,
            pooler,
        };
        let told = posture(&way, encrypted);
        told.into_iter().map(|finding| finding.code).collect::<Vec<_>>()
    };
    for host in ["127.0.0.1", "localhost", "/run/postgresql", "::1"] {
        assert_eq!(told(host, Disable, false, false), [""; 0], "{host}");
    }
    let far = "db.example.org";
    for mode in [Disable, Prefer] {
        assert_eq!(told(far, mode, false, false), [code::PLAINTEXT_CONNECTION]);
    }
    for mode in [Prefer, Require, VerifyCa] {
        assert_eq!(told(far, mode, false, true), [code::TLS_UNVERIFIED]);
    }
    assert_eq!(told(far, VerifyFull, false, true), [""; 0]);
    // What the pooler has with the server says nothing of us.
    assert_eq!(
        told(far, Prefer, true, true),
        [code::POOLER, code::PLAINTEXT_CONNECTION]
    );
    assert_eq!(told(far, VerifyFull, true, false), [code::POOLER]);
}

#[test]
fn k2_clocks_that_differ_are_told_by_how_much_at_least() {
    let at = |millis: i64| time::from_micros(1_000_000_000_000_000 + millis * 1_000).unwrap();
    let told = |server| skew(at(0), at(server), at(500)).map(|finding| (finding.severity, finding.what));
    for server in [-999, 0, 250, 500, 1_499] {
        assert_eq!(told(server), None, "{server}");
    }
    let (severity, what) = told(2_500).unwrap();
    assert!(
        severity == Severity::Info && what.contains("2 s ahead of"),
        "{what}"
    );
    let (severity, what) = told(-59_999).unwrap();
    assert!(
        severity == Severity::Info && what.contains("59 s behind"),
        "{what}"
    );
    for server in [-60_000, 60_500] {
        assert_eq!(told(server).unwrap().0, Severity::Warning, "{server}");
    }
}
