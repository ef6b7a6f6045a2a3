use super::*;
use secrecy::ExposeSecret as _;

#[test]
fn a_postgres_url_gives_its_parts_and_hides_them() {
    let text = "postgresql://us%65r:p%40ss@db:5433/ci%20d?sslmode=require&persist_schema=ci&options[a]=b%20c";
    let DbUrl::Postgres(url) = text.parse().unwrap() else {
        panic!()
    };
    assert_eq!(url.password.as_ref().unwrap().expose_secret(), "p@ss");
    assert_eq!(
        (url.user.as_deref(), url.host.as_deref(), url.port),
        (Some("user"), Some("db"), Some(5433))
    );
    assert_eq!(
        url.parameters,
        [
            ("sslmode", "require".to_owned()),
            ("options", "-c a=b\\ c".to_owned())
        ]
    );
    assert_eq!(url.schema.as_deref(), Some("ci"));
    assert_eq!(format!("{url:?}"), "PostgresUrl(postgres://db:5433/ci d)");
}

#[test]
fn sockets_and_missing_hosts_are_understood() {
    let host = |text: &str| match text.parse().unwrap() {
        DbUrl::Postgres(url) => (url.host.clone(), url.user.clone(), url.database.clone()),
        other => panic!("{other}"),
    };
    let owned = |text: &str| Some(text.to_owned());
    assert_eq!(
        host("postgres:///db?host=/run/pg"),
        (owned("/run/pg"), None, owned("db"))
    );
    assert_eq!(
        host("postgres://%2Frun%2Fpg/db"),
        (owned("/run/pg"), None, owned("db"))
    );
    assert_eq!(host("postgres://me@/db"), (None, owned("me"), owned("db")));
    assert_eq!(host("postgres://"), (None, None, None));
    assert_eq!(host("postgres://u@h/d?host=&user=&dbname="), (None, None, None));
}

#[test]
fn bad_urls_are_named_without_being_shown() {
    let bad = [
        "hunter2",
        "hunter2://x:hunter2@y",
        "postgres:hunter2",
        "postgres://u:hunter2@a,b/db",
        "postgres://u:hunter2@a:port/db",
        "postgres://u:12/hunter2@h/db",
        "postgres://u:hun#ter2@a/db",
        "postgres://u:x@a/db?hunter2=1",
        "postgres://u:x@a/db?sslmode=hunter2",
        "postgres://a/db?persist_schema=hunter2-",
        "postgres://a/db?persist_pooler=hunter2",
        "postgres://a/db?persist_pooler=transaction&options=-chunter2=1",
        "postgres://a/db?options[hunter2]=1&persist_pooler=transaction",
        "postgres://a/db?persist_pooler=transaction&statement-cache-capacity=1",
        "sqlite:",
        "sqlite://a?mode=hunter2",
        "sqlite://a?hunter2",
        "memory:hunter2/",
        "none:hunter2",
    ];
    for text in bad {
        let error = text.parse::<DbUrl>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{text}");
        assert!(
            !format!("{error:?} {error}").contains("unter2"),
            "{text}: {error:?}"
        );
    }
    assert!(
        "postgers://h/d"
            .parse::<DbUrl>()
            .unwrap_err()
            .to_string()
            .contains("unknown scheme postgers")
    );
}

#[test]
fn sqlite_paths_and_modes() {
    let parse = |text: &str| match text.parse().unwrap() {
        DbUrl::Sqlite(url) => (url.path.map(|path| path.display().to_string()), url.mode),
        other => panic!("{other}"),
    };
    assert_eq!(
        parse("sqlite://persist.db?mode=rwc"),
        (Some("persist.db".into()), SqliteMode::Create)
    );
    assert_eq!(
        parse("sqlite:///var/a%20b.db"),
        (Some("/var/a b.db".into()), SqliteMode::ReadWrite)
    );
    assert_eq!(
        parse("sqlite:x.db?mode=ro"),
        (Some("x.db".into()), SqliteMode::ReadOnly)
    );
    assert_eq!(parse("sqlite::memory:"), (None, SqliteMode::Create));
}

#[test]
fn every_part_may_be_a_parameter() {
    let text = "postgres://h/d?user=me&password=hunter2&port=5433&dbname=ci&host=/run/pg&statement-cache-capacity=7&ssl-ca=/a";
    let DbUrl::Postgres(url) = text.parse().unwrap() else {
        panic!()
    };
    assert_eq!(
        (
            url.host.as_deref(),
            url.port,
            url.user.as_deref(),
            url.database.as_deref()
        ),
        (Some("/run/pg"), Some(5433), Some("me"), Some("ci"))
    );
    assert_eq!(url.password.as_ref().unwrap().expose_secret(), "hunter2");
    assert_eq!(
        url.parameters,
        [
            ("statement-cache-capacity", "7".to_owned()),
            ("sslrootcert", "/a".to_owned())
        ]
    );
    assert_eq!((url.schema, url.pooler), (None, false));
    let parts = |text: &str| match text.parse().unwrap() {
        DbUrl::Postgres(url) => (url.host, url.schema, url.pooler, url.password.is_some()),
        other => panic!("{other}"),
    };
    assert_eq!(
        parts("postgres://h/d?hostaddr=10.0.0.1&persist_pooler=transaction&persist_schema=_a1"),
        (Some("10.0.0.1".into()), Some("_a1".into()), true, false)
    );
    let longest = "a".repeat(63);
    assert_eq!(
        parts(&format!("postgres:///?persist_schema={longest}")).1,
        Some(longest)
    );
}

#[test]
fn what_is_wrong_is_told_by_its_kind() {
    let table = [
        ("postgres://h/d?port=x", "port must be"),
        ("postgres://h/d?hostaddr=h", "hostaddr must be an IP address"),
        ("postgres://h/d?hostaddr=1.2.3.4,h", "several hosts"),
        ("postgres://h/d?host=a,b", "several hosts"),
        ("postgres://h/d?statement-cache-capacity=x", "must be a number"),
        ("postgres://h/d?options[a=b", "unknown parameter"),
        ("postgres://h/d?SSL_MODE=x", "(SSL_MODE; is sslmode meant?)"),
        ("postgres://h/d?persist_schemas=x", "(persist_schemas)"),
        ("postgres://h/d?other=x", "(name withheld)"),
        ("postgres://ci:1234?persist-prod-2024@db/ci", "(name withheld)"),
        ("postgres://h/d?persist_prod_2024=x", "(name withheld)"),
        (
            "postgres://h/d?persist_aaaaaaaaaaaaaaaaaaaaaaaaa=x",
            "(name withheld)",
        ),
        (
            "postgres://h/d?persist_pooler=x",
            "persist_pooler must be transaction",
        ),
        ("postgres://h/d?persist_schema=", "persist_schema must be"),
        ("postgres://h/d?persist_schema=1a", "persist_schema must be"),
        ("postgres://h/d?persist_schema=A", "persist_schema must be"),
        ("postgres://h/d?persist_schema=a-b", "persist_schema must be"),
        ("postgres://h/d?persist_schema=pg_a", "persist_schema must be"),
        ("postgres://h/d%00", "database must not contain a NUL"),
        ("postgres://h/d?user=a%00", "a parameter must not contain a NUL"),
        ("postgres://a%00@h/d", "user must not contain a NUL"),
        ("postgres://h/d%FF", "database is not UTF-8"),
        ("sqlite::memory:?mode=ro", "can't be read-only"),
        ("sqlite:a%00", "names a file"),
        ("sqlite:a?mode=x", "mode must be ro, rw or rwc"),
        ("sqlite:a?made=rw", "unknown parameter"),
        ("memory:a/b", "memory: takes a name"),
        ("none:x", "none: takes nothing"),
        ("a23456789012://h", "unknown scheme;"),
        ("abcdefghijklm://h", "unknown scheme;"),
    ];
    for (text, what) in table {
        let error = text.parse::<DbUrl>().unwrap_err().to_string();
        assert!(error.contains(what), "{text}: {error}");
    }
    for text in [
        format!("memory:{}", "a".repeat(65)),
        format!("postgres://h/d?persist_schema={}", "a".repeat(64)),
    ] {
        assert!(text.parse::<DbUrl>().is_err(), "{text}");
    }
}

#[test]
fn each_scheme_has_its_backend_and_is_shown_by_its_place() {
    let longest = format!("memory:{}", "a".repeat(64));
    let table = [
        ("postgresql://u@h:5433/d", "postgres", "postgres://h:5433/d"),
        ("sqlite:a%20b.db?mode=rw", "sqlite", "sqlite:a b.db"),
        ("sqlite:x?&mode=rwc&&", "sqlite", "sqlite:x"),
        ("sqlite::memory:?mode=rwc", "sqlite", "sqlite::memory:"),
        ("memory:", "memory", "memory:"),
        ("memory:a-1_b.c", "memory", "memory:a-1_b.c"),
        (&longest, "memory", &longest),
        ("NONE:", "none", "none:"),
    ];
    for (text, backend, shown) in table {
        let url: DbUrl = text.parse().unwrap();
        assert_eq!((url.backend(), url.to_string().as_str()), (backend, shown));
        assert_eq!(format!("{url:?}"), format!("DbUrl({shown})"));
    }
}
