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
