//! What others attached to the tables of an earlier orchestrator, and whose these are.

use super::*;

const NOTES: &str = "CREATE TABLE notes (job uuid REFERENCES jobs ON DELETE CASCADE, text text);
                     INSERT INTO notes VALUES ('00000000-0000-0000-0000-000000000001', 'kept')";

#[tokio::test(flavor = "multi_thread")]
async fn m14_tables_that_others_hang_on_are_left_alone() {
    let function = "CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';";
    let trigger = format!("{function} CREATE TRIGGER tells AFTER DELETE ON vms EXECUTE FUNCTION told()");
    let attached = [
        (
            NOTES,
            "foreign key notes_job_fkey of notes points at jobs",
            "DROP TABLE notes",
        ),
        (&trigger, "trigger tells is on vms", "DROP TRIGGER tells ON vms"),
        (
            "CREATE RULE keeps AS ON DELETE TO vms DO INSTEAD NOTHING",
            "rule keeps is on vms",
            "DROP RULE keeps ON vms",
        ),
        (
            "CREATE VIEW busy AS SELECT request_id FROM jobs WHERE state = 'running'",
            "view busy reads jobs",
            "DROP VIEW busy",
        ),
        (
            "CREATE TABLE old_jobs () INHERITS (jobs)",
            "table old_jobs inherits from jobs",
            "DROP TABLE old_jobs",
        ),
        (
            "CREATE TABLE machines (); ALTER TABLE vms INHERIT machines",
            "vms inherits from table machines",
            "ALTER TABLE vms NO INHERIT machines",
        ),
    ];
    for (statements, told, drops) in attached {
        let place = with(&[seed::TABLES, seed::ROWS, statements]).await;
        let mut tables = vec!["jobs", "vms"];
        tables.extend((statements == NOTES).then_some("notes"));
        let (shape_before, before) = (shape::of(&place).await, content(&place, &tables).await);
        let error = refused(&place).await;
        assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{error}");
        for part in [told, "nothing was changed"] {
            assert!(error.to_string().contains(part), "{part} is not in: {error}");
        }
        assert_eq!(shape::of(&place).await, shape_before, "{told}");
        assert_eq!(content(&place, &tables).await, before, "{told}");
        place.execute(drops).await;
        place::fold_holds(&place.migrated().await.unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m11_rows_that_others_hang_on_are_not_replaced_on_the_way_up_again() {
    let place = with(&[seed::TABLES, seed::ROWS]).await;
    let backend = place.migrated().await.unwrap();
    let schema = backend.schema().unwrap();
    let all = schema.status().await.unwrap().migrations.len();
    let down = Down::steps(all as u32 - 1).confirmed(true);
    schema.down(down).await.unwrap();
    place.execute(NOTES).await;
    let before = content(&place, &["notes"]).await;
    let error = schema.up().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{error}");
    let told = "foreign key notes_job_fkey of notes points at jobs";
    assert!(error.to_string().contains(told), "{error}");
    assert_eq!(content(&place, &["notes"]).await, before);
    place.execute("DROP TABLE notes").await;
    schema.up().await.unwrap();
    place::fold_holds(&backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m13_only_their_owner_can_have_tables_adopted() {
    let place = with(&[seed::TABLES, seed::ROWS]).await;
    let (role, schema) = (shared().fresh_name("r"), place.schema());
    shared()
        .sql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'word'; GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}; \
             GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}"
        ))
        .await;
    let stranger = Place::at(format!(
        "{}?persist_schema={schema}",
        shared().url_for(&role, "word", "postgres")
    ));
    let (shape_before, before) = (shape::of(&place).await, content(&place, &["jobs", "vms"]).await);
    let error = refused(&stranger).await;
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
    for part in [
        "not the owner of jobs and vms",
        "persist migrate up",
        "nothing was changed",
    ] {
        assert!(error.to_string().contains(part), "{part} is not in: {error}");
    }
    assert_eq!(shape::of(&place).await, shape_before, "nothing was made");
    assert_eq!(content(&place, &["jobs", "vms"]).await, before);
    place::fold_holds(&place.migrated().await.unwrap()).await;
}

/// A table of another program that has a name which we need: told at once, and by name; what is optional is done without.
#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_table_of_our_name_is_told_at_once_and_left() {
    let place = Place::empty(Database::Postgres);
    let stranger = format!("CREATE TABLE {}.refusals (id int, reason text)", place.schema());
    let backend = place.migrated().await.unwrap();
    assert!(
        backend.ledger().is_some(),
        "also through the layer that shares commits"
    );
    let schema = backend.schema().unwrap();
    schema.down(Down::steps(1).confirmed(true)).await.unwrap();
    place.execute(&stranger).await;
    let before = shape::of(&place).await;
    let begun = std::time::Instant::now();
    let error = schema.up().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{error}");
    assert!(error.to_string().contains("m20261128_000008_ledger"), "{error}");
    assert!(
        begun.elapsed() < persist_core::Deadlines::default().migration / 2,
        "it does not wait"
    );
    assert_eq!(shape::of(&place).await, before);
    // A job of the name of theirs goes without a look at their table.
    let claims = persist_tests::sample::claims([persist_tests::sample::job(1, persist::JobState::Failed)]);
    backend.apply(&claims.unwrap()).await.unwrap();
    let prune = persist::Prune::default().ids([persist_tests::sample::id(1)]);
    assert_eq!(backend.prune(&prune).await.unwrap().jobs, 1);
    place
        .execute(&format!("DROP TABLE {}.refusals", place.schema()))
        .await;
    assert_eq!(schema.up().await.unwrap(), ["m20261128_000008_ledger"]);
    backend.close().await.unwrap();
}
