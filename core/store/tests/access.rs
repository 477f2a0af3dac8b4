//! Who may do what: starting waits for no reader, the past stays as it is for whoever trains, and who only
//! looks needs no other right.

mod cluster;
mod samples;

use cluster::{Bench, RUN, bench};
use hm_domain::event::{Ending, Event, RunFinished};
use hm_domain::id::{Digest, RunId};
use hm_domain::plugin::{Description, World};
use hm_store::{Namesakes, PluginRow, ROLES, Store, StoreError};
use samples::started;
use sqlx::Connection as _;

fn step(step: u64) -> Event {
    Event::StepRecorded(Box::new(samples::step(step, 2)))
}

fn partition(run: RunId) -> String {
    format!("event_{}", run.0.simple())
}

/// The address of a test's database, as another role.
async fn url_as(bench: &mut Bench, role: &str) -> String {
    let text = "select current_database()::text";
    let name: String = sqlx::query_scalar(text).fetch_one(&mut bench.admin).await.unwrap();
    let url = bench.cluster.postgres.url().replace("/postgres?", &format!("/{name}?"));
    url.replace("heurimentor@", &format!("{role}@"))
}

/// A login that may do what this role may.
async fn login(bench: &mut Bench, login: &str, role: &str) -> String {
    bench.sql(&format!("create role {login} login in role {role}")).await.unwrap();
    url_as(bench, login).await
}

fn plugin(wasm: &[u8]) -> PluginRow {
    let description = Description {
        name: "odm".to_owned(),
        version: "0.1.0".to_owned(),
        documentation: String::new(),
        config_schema: "{}".to_owned(),
        columns: Vec::new(),
        every_steps: 1,
        gates: false,
        watches: false,
        wants_timings: false,
    };
    PluginRow {
        digest: Digest::of(wasm),
        world: World::Policy,
        interface: "0.1.0".to_owned(),
        description,
        check: serde_json::json!([]),
        installed_at: 1,
    }
}

/// What a dump does for hours: a transaction that has read from the table of all events.
#[tokio::test(flavor = "multi_thread")]
async fn run_starts_and_others_go_on_while_somebody_reads_all_events() {
    let mut bench = bench().await;
    let mut going = bench.begin(started(2)).await;
    bench.sql("begin; select count(*) from event").await.unwrap();
    let other = RunId(uuid::Uuid::from_u128(8));
    let start = bench.store.start_run(other, "other", Namesakes::Refused, started(2));
    let patience = std::time::Duration::from_secs(20);
    let mut begun = tokio::time::timeout(patience, start).await.expect("it waits").unwrap();
    begun.append(0, vec![step(0)]).await.unwrap();
    going.append(0, vec![step(0)]).await.unwrap();
    assert_eq!(bench.store.verify_chain(other).await.unwrap().events, 2);
    bench.sql("rollback").await.unwrap();
    // Who has the table to himself is waited for, a little at a time.
    bench.sql("begin; lock table event in access exclusive mode").await.unwrap();
    let (store, third) = (bench.store.clone(), RunId(uuid::Uuid::from_u128(9)));
    let started = started(2);
    let start = tokio::spawn(async move {
        store.start_run(third, "third", Namesakes::Refused, started).await.map(|_| ())
    });
    let waits = "select 1 from pg_locks where relation = 'event'::regclass and not granted";
    while bench.rows(waits).await.is_empty() {
        assert!(!start.is_finished(), "it did not wait");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    bench.sql("rollback").await.unwrap();
    start.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn detached_partition_stays_as_it_is() {
    let mut bench = bench().await;
    let _lease = bench.begin(started(2)).await;
    let part = partition(RUN);
    bench.sql(&format!("alter table event detach partition {part}")).await.unwrap();
    for change in ["update {} set recorded_at = recorded_at + 1", "delete from {}", "truncate {}"] {
        let refusal = bench.sql(&change.replace("{}", &part)).await.unwrap_err();
        assert!(refusal.to_string().contains("append-only"), "{change}: {refusal}");
    }
    let attach = format!("alter table event attach partition {part} for values in ('{RUN}')");
    bench.sql(&attach).await.unwrap();
    assert_eq!(bench.store.verify_chain(RUN).await.unwrap().broken, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_role_trains_and_cannot_touch_the_past() {
    let mut bench = bench().await;
    bench.sql(ROLES).await.unwrap();
    bench.sql(ROLES).await.unwrap();
    let url = login(&mut bench, "trainer", "heurimentor_worker").await;
    let store = Store::connect(&url, 2).await.unwrap();
    let mut lease = store.start_run(RUN, "test", Namesakes::Refused, started(2)).await.unwrap();
    assert!(store.install_plugin(&plugin(b"bytes"), b"bytes", "me").await.unwrap());
    store.put_blob(b"state").await.unwrap();
    let body = serde_json::json!({ "command": "pause" });
    store.put_command(RUN, "pause", &body, "me").await.unwrap();
    lease.append(0, (0..20).map(step).collect()).await.unwrap();
    lease.release().await.unwrap();
    let mut lease = store.acquire_writer(RUN).await.unwrap();
    assert_eq!(store.rebuild(RUN).await.unwrap().rows, 0);
    assert_eq!(store.check_views(RUN).await.unwrap().differences, 0);
    let reason = "all steps are done".to_owned();
    let end = RunFinished { step: 20, ending: Ending::Completed, reason };
    lease.append(0, vec![Event::RunFinished(end)]).await.unwrap();
    let mut session = sqlx::PgConnection::connect(&url).await.unwrap();
    let (part, hash) = (partition(RUN), Digest::ZERO);
    for change in [
        "update event set step = 1".to_owned(),
        "delete from event".to_owned(),
        "truncate event".to_owned(),
        format!("update {part} set step = 1"),
        format!("delete from {part}"),
        format!("truncate {part}"),
        format!("drop table {part}"),
        format!("alter table event detach partition {part}"),
        format!("alter table {part} disable trigger all"),
        "drop table event".to_owned(),
        format!(
            "insert into event values ('{RUN}', 900, 0, null, 2, 1, 0, 1, 'x', '\\x{hash}', '\\x{hash}')"
        ),
        "update run_head set next_seq = 1".to_owned(),
        format!("update run_head set chain = '\\x{hash}'"),
        "update run_head set sealed = false".to_owned(),
        "delete from run_head".to_owned(),
        "update plugin set wasm = 'x'".to_owned(),
        "delete from plugin".to_owned(),
        "update plugin_state set state = 'x'".to_owned(),
        "set session_replication_role = replica".to_owned(),
    ] {
        let refusal =
            sqlx::raw_sql(sqlx::AssertSqlSafe(change.clone())).execute(&mut session).await;
        let refusal = refusal.expect_err(&change);
        let code = refusal.as_database_error().unwrap().code().unwrap().into_owned();
        assert_eq!(code, "42501", "{change}: {refusal}");
    }
    assert_eq!(bench.store.verify_chain(RUN).await.unwrap().broken, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn reader_role_audits_and_writes_nothing() {
    let mut bench = bench().await;
    let mut lease = bench.begin(started(2)).await;
    lease.append(0, (0..10).map(step).collect()).await.unwrap();
    bench.sql(ROLES).await.unwrap();
    let url = login(&mut bench, "auditor", "heurimentor_reader").await;
    let store = Store::connect_to_read(&url, 1).await.unwrap();
    assert_eq!(store.verify_chain(RUN).await.unwrap().broken, None);
    assert_eq!(store.check_views(RUN).await.unwrap().differences, 0);
    assert_eq!(store.runs().await.unwrap().len(), 1);
    assert_eq!(store.find_run("test").await.unwrap().unwrap().run_id, RUN);
    // Nor does a session that may: the server refuses.
    let url = url_as(&mut bench, "heurimentor").await;
    let refusal = Store::connect_to_read(&url, 1).await.unwrap().put_blob(b"state").await;
    assert!(refusal.unwrap_err().to_string().contains("read-only"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_another_version_are_told_in_a_sentence() {
    let mut bench = bench().await;
    bench.sql("create database elsewhere").await.unwrap();
    let url = bench.cluster.postgres.url().replace("/postgres?", "/elsewhere?");
    let refusal = Store::connect_to_read(&url, 1).await.unwrap_err();
    assert!(matches!(refusal, StoreError::NoTables), "{refusal}");
    let url = url_as(&mut bench, "heurimentor").await;
    let last =
        "delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)";
    bench.sql(&format!("begin; {last}; commit")).await.unwrap();
    let refusal = Store::connect_to_read(&url, 1).await.unwrap_err().to_string();
    assert!(refusal.contains("hm db migrate"), "{refusal}");
    bench
        .sql("insert into _sqlx_migrations select 9999, 'newer', now(), true, '', 0")
        .await
        .unwrap();
    for refusal in [Store::connect(&url, 1).await, Store::connect_to_read(&url, 1).await] {
        let refusal = refusal.unwrap_err().to_string();
        assert!(
            refusal.contains("of version 9999") && refusal.contains("or a newer one"),
            "{refusal}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plugin_comes_with_its_event_and_other_bytes_are_refused() {
    let mut bench = bench().await;
    let row = plugin(b"bytes");
    // Somebody holds the system stream's head: neither the row nor the event is there without the other.
    bench.sql("begin; select 1 from run_head for update").await.unwrap();
    let (store, own) = (bench.store.clone(), row.clone());
    let installing = tokio::spawn(async move { store.install_plugin(&own, b"bytes", "me").await });
    while bench.rows("select 1 from pg_locks where not granted").await.is_empty() {
        assert!(!installing.is_finished(), "it did not wait");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(bench.rows("select digest from plugin").await.is_empty());
    installing.abort();
    bench.sql("rollback").await.unwrap();
    assert!(bench.store.install_plugin(&row, b"bytes", "me").await.unwrap());
    assert!(!bench.store.install_plugin(&row, b"bytes", "me").await.unwrap());
    assert_eq!(bench.rows("select seq from event").await.len(), 1);
    for change in [
        "update plugin set wasm = 'x'",
        "insert into plugin select '\\x00', wasm, world, interface, \
        name, version, description, checks, installed_at from plugin",
    ] {
        bench.sql(change).await.unwrap_err();
    }
    // An owner can take the check away as well; whoever loads the bytes sees it.
    let forged = "set session_replication_role = replica; alter table plugin drop constraint \
                  plugin_is_its_digest; update plugin set wasm = 'others'";
    bench.sql(forged).await.unwrap();
    let refusal = bench.store.plugin_wasm(row.digest).await.unwrap_err().to_string();
    assert!(refusal.contains("plugin odm@0.1.0") && refusal.contains("other bytes"), "{refusal}");
}
