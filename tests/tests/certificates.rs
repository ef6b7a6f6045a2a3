//! Servers with certificates that hold and that don't. Numbers are those of the table of failures.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use persist::{DbUrl, ErrorKind, JobState, OnUnavailable, OpenOptions, Persist};
use persist_tests::cluster::{self, Cluster, Options};
use persist_tests::process;
use persist_tests::sample;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::{SLACK, connect};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for this name and its key, that ends with this year.
fn certificate(authority: &Authority, name: &str, year: i32) -> (String, String) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(year, 12, 31));
    let key = KeyPair::generate().unwrap();
    (
        params.signed_by(&key, authority).unwrap().pem(),
        key.serialize_pem(),
    )
}

/// A server that shows certificates.
struct Shop {
    cluster: Cluster,
    authority: Authority,
    /// Its certificate, where clients can read it.
    root: PathBuf,
    folder: tempfile::TempDir,
}

impl Shop {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = authority();
        let root = written(folder.path(), "root.pem", &authority.pem());
        Self {
            cluster: Cluster::start(&Options::default()),
            authority,
            root,
            folder,
        }
    }

    /// From now on the server shows this, to whoever comes.
    async fn shows(&self, what: &str, (certificate, key): (String, String)) {
        let certificate = self.cluster.private_file(&format!("{what}.pem"), &certificate);
        let key = self.cluster.private_file(&format!("{what}.key"), &key);
        let settings = [
            ("ssl_cert_file", certificate.to_str().unwrap()),
            ("ssl_key_file", key.to_str().unwrap()),
            ("ssl", "on"),
        ];
        self.sets(&settings).await;
    }

    async fn sets(&self, settings: &[(&str, &str)]) {
        for (name, value) in settings {
            self.cluster
                .sql(&format!("ALTER SYSTEM SET {name} = '{value}'"))
                .await;
        }
        self.cluster.sql("SELECT pg_reload_conf()").await;
        // A process that is started takes over what the first one has read.
        process::until("the server has read its settings", async || {
            let mut connection = cluster::connect(&self.cluster.url("postgres")).await;
            let mut are_set = true;
            for (name, value) in settings {
                let shown: String = sqlx::query_scalar("SELECT current_setting($1)")
                    .bind(name)
                    .fetch_one(&mut connection)
                    .await
                    .unwrap();
                are_set &= shown == *value;
            }
            are_set
        })
        .await;
    }

    fn url(&self, mode: &str, root: Option<&Path>) -> String {
        let url = self.cluster.url_for("postgres", "hunter2", "postgres");
        let root = root.map(|root| format!("&sslrootcert={}", root.display()));
        format!("{url}?sslmode={mode}{}", root.unwrap_or_default())
    }

    /// Connects, and says whether by TLS.
    async fn takes(&self, mode: &str, root: Option<&Path>) -> bool {
        let (persist, _) = connect(&self.url(mode, root), OnUnavailable::Fail, process::BOUND).await;
        let persist = persist.unwrap_or_else(|error| panic!("{mode}: {error:?}"));
        let update = sample::job(1, JobState::Queued);
        persist.record_job_state(update).await.unwrap();
        let mut connection = cluster::connect(&self.cluster.url("postgres")).await;
        let query = "SELECT bool_and(s.ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
                     WHERE a.application_name = 'persist'";
        let is_secret = sqlx::query_scalar(query).fetch_one(&mut connection).await;
        persist.close().await.unwrap();
        is_secret.unwrap()
    }

    /// Is refused at once, whatever the policy, with a text that has these words and no secret.
    async fn refuses(&self, mode: &str, root: Option<&Path>, kind: ErrorKind, words: &[&str]) {
        let within = process::BOUND;
        for policy in [OnUnavailable::Fail, OnUnavailable::Retry { within }] {
            let (refused, took) = connect(&self.url(mode, root), policy, process::BOUND).await;
            let error = refused.map(drop).unwrap_err();
            let text = format!("{error}");
            assert_eq!(error.kind(), kind, "{error:?}");
            assert!(took < SLACK, "it does not heal by waiting: {took:?} {text}");
            for word in words {
                assert!(text.contains(word), "{word}: {text}");
            }
            assert!(!format!("{text} {error:?}").contains("hunter2"), "{text}");
        }
    }
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.0.lock().write(piece)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn c13_only_a_server_that_the_settings_trust_is_taken() {
    let shop = Shop::open();
    let root = Some(shop.root.as_path());
    // Without TLS.
    let offers_none = ["offers no TLS", "sslmode"];
    for mode in ["require", "verify-ca", "verify-full"] {
        shop.refuses(mode, root, ErrorKind::Auth, &offers_none).await;
    }
    assert!(!shop.takes("prefer", None).await);

    shop.shows("right", certificate(&shop.authority, "127.0.0.1", 2999))
        .await;
    for mode in ["require", "verify-ca", "verify-full"] {
        assert!(shop.takes(mode, root).await, "{mode}");
    }
    assert!(shop.takes("prefer", None).await && shop.takes("require", None).await);
    assert!(!shop.takes("disable", None).await);

    // Of somebody else's authority, and without any that knows it.
    let other = written(shop.folder.path(), "other.pem", &authority().pem());
    let of_nobody = ["no authority that is trusted", "sslrootcert"];
    for mode in ["require", "verify-ca", "verify-full"] {
        shop.refuses(mode, Some(&other), ErrorKind::Auth, &of_nobody)
            .await;
    }
    shop.refuses("verify-full", None, ErrorKind::Auth, &of_nobody)
        .await;

    shop.shows("named", certificate(&shop.authority, "db.example.org", 2999))
        .await;
    let named = ["not for 127.0.0.1", "subjectAltName"];
    shop.refuses("verify-full", root, ErrorKind::Auth, &named).await;
    assert!(shop.takes("verify-ca", root).await, "which asks for no name");

    shop.shows("old", certificate(&shop.authority, "127.0.0.1", 2021))
        .await;
    for mode in ["verify-ca", "verify-full"] {
        shop.refuses(mode, root, ErrorKind::Auth, &["has expired", "renew"])
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c13_files_that_cannot_be_used_are_named_by_their_parameter() {
    let shop = Shop::open();
    shop.shows("right", certificate(&shop.authority, "127.0.0.1", 2999))
        .await;
    let absent = shop.folder.path().join("hunter2.pem");
    let empty = written(shop.folder.path(), "empty.pem", "");
    let broken = written(
        shop.folder.path(),
        "broken.pem",
        "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n",
    );
    for (root, words) in [
        (&absent, "sslrootcert names can't be read"),
        (&empty, "sslrootcert holds no certificate"),
        (&broken, "sslrootcert holds no certificate"),
    ] {
        shop.refuses("verify-full", Some(root), ErrorKind::InvalidUrl, &[words])
            .await;
    }
    for (more, words) in [
        ("sslcert=x", "sslcert and sslkey must be given together"),
        ("sslcert=x&sslkey=y", "sslcert names can't be read"),
    ] {
        let url = format!("{}&{more}", shop.url("verify-full", Some(&shop.root)));
        let (refused, _) = connect(&url, OnUnavailable::Fail, process::BOUND).await;
        let error = refused.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
    // A file that is not read does not make a misconfiguration of an outage, nor does one that is.
    let port = cluster::free_port();
    for settings in [
        "sslmode=disable&sslrootcert=x",
        "sslmode=verify-full&sslrootcert=x",
    ] {
        let url = format!("postgres://ci@127.0.0.1:{port}/ci?{settings}");
        let (refused, _) = connect(&url, OnUnavailable::Fail, process::BOUND).await;
        let error = refused.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c13_with_best_effort_a_renewed_certificate_is_noticed() {
    let shop = Shop::open();
    shop.shows("old", certificate(&shop.authority, "127.0.0.1", 2021))
        .await;
    let url = shop.url("verify-full", Some(&shop.root));
    let persist = Persist::new(Some(url)).await.unwrap();
    assert!(!persist.is_enabled());
    let health = persist.health().await.unwrap();
    assert_eq!(health.last_error.as_deref(), Some("auth"));
    shop.shows("new", certificate(&shop.authority, "127.0.0.1", 2999))
        .await;
    process::until("it turns itself on", async || persist.is_enabled()).await;
    persist.close().await.unwrap();
}

#[tokio::test]
async fn c13_a_remote_host_without_tls_is_warned_of_once() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .with_writer(move || writer.clone());
    let _until_the_end = subscriber.set_default();
    let plain = |host: &str| format!("postgres://ci:hunter2@{host}/ci");
    for url in [
        plain("plain.invalid"),
        plain("plain.invalid"),
        format!("{}?sslmode=allow", plain("allowed.invalid")),
        format!("{}?sslmode=disable", plain("disabled.invalid")),
        format!("{}?sslmode=verify-full", plain("verified.invalid")),
        plain(&format!("127.0.0.1:{}", cluster::free_port())),
    ] {
        let url: DbUrl = url.parse().unwrap();
        let opened = persist::open(&url, &OpenOptions::default()).await;
        opened.map(drop).unwrap_err();
    }
    let text = String::from_utf8(log.0.lock().clone()).unwrap();
    let about = |host: &str| text.lines().filter(|line| line.contains(host)).count();
    let counted = ["plain.", "allowed.", "disabled.", "verified.", "127.0.0.1"].map(about);
    assert_eq!(counted, [1, 1, 0, 0, 0], "{text}");
    assert!(
        text.contains("sslmode=verify-full") && !text.contains("hunter2"),
        "{text}"
    );
}
