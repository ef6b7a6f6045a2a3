//! The cases about texts and their order, in a database whose own order is that of a language. Numbers are those of
//! the table of failures.

use async_trait::async_trait;
use persist_core::Result;
use persist_tests::cluster::{self, shared};
use persist_tests::factory::{Factory, Store};
use persist_tests::place::Place;
use persist_tests::{Verdict, cases, check};
use sqlx::{Connection as _, Row as _};

/// Stores in one database, each in a schema of its own.
struct Locale {
    database: String,
}

#[async_trait]
impl Factory for Locale {
    fn name(&self) -> String {
        "postgres with a locale".into()
    }

    async fn fresh(&self) -> Result<Store> {
        let mut url =
            url::Url::parse(&shared().url(&self.database)).expect("the tests make well-formed URLs");
        let schema = shared().fresh_name("s");
        url.query_pairs_mut().append_pair("persist_schema", &schema);
        let place = Place::at(url.into());
        Ok(Store::new(place.migrated().await?).keep(place))
    }
}

async fn number(database: &str, query: &'static str) -> i32 {
    let mut connection = cluster::connect(&shared().url(database)).await;
    let row = sqlx::query(query).fetch_one(&mut connection).await;
    let _ = connection.close().await;
    row.and_then(|row| row.try_get(0)).expect("is one number")
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_texts_are_ordered_by_bytes_whatever_the_databases_locale() {
    if number("postgres", "SELECT current_setting('server_version_num')::int").await < 150_000 {
        eprintln!("not asked: databases of this server can't have a language's order of their own");
        return;
    }
    let database = shared().fresh_name("icu");
    let create =
        format!("CREATE DATABASE {database} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'");
    shared().sql(&create).await;
    let of_language = number(&database, "SELECT ('a' < 'B')::int").await;
    assert_eq!(of_language, 1, "the database itself orders as people do");
    let factory = Locale { database };
    let mut asked = 0;
    for case in cases().filter(|case| ["input", "history", "vm_queries"].contains(&case.group)) {
        match check(case, &factory).await {
            Verdict::Passed => asked += 1,
            Verdict::Skipped(_) => {}
            Verdict::Failed(text) => panic!("{case:?}: {text}"),
        }
    }
    assert!(asked > 30, "only {asked} cases were asked");
}
