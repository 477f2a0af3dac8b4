//! The log on a real PostgreSQL: what is appended, what is refused, what the chain shows.

mod cluster;
mod samples;

use cluster::{RUN, bench};
use hm_domain::event::{CommandAnswered, Ending, Event, RunFinished};
use hm_domain::id::Digest;
use hm_store::{PrivatePostgres, StoreError};
use samples::started;

fn partition() -> String {
    format!("event_{}", RUN.0.simple())
}

fn step(step: u64) -> Event {
    Event::StepRecorded(Box::new(samples::step(step, 2)))
}

fn code(error: &sqlx::Error) -> String {
    error.as_database_error().unwrap().code().unwrap().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn appended_events_read_back_and_chain() {
    let bench = bench().await;
    let mut lease = bench.begin(started(2)).await;
    let written = lease.append(0, (0..5).map(step).collect()).await.unwrap();
    let read = bench.store.read(RUN, 0, 100).await.unwrap();
    assert_eq!(read.iter().map(|r| r.seq).collect::<Vec<_>>(), (0..6).collect::<Vec<_>>());
    // NaN differs from itself, so compare what people would see.
    assert_eq!(format!("{:?}", read[0].event), format!("{:?}", started(2)));
    assert_eq!(format!("{:?}", &read[1..]), format!("{written:?}"));
    let report = bench.store.verify_chain(RUN).await.unwrap();
    assert_eq!((report.events, report.broken), (6, None));
    assert_eq!(bench.store.runs_named("test").await.unwrap()[0].run_id, RUN.0);
}

/// What plugins may write does not say what a reader needs.
#[tokio::test(flavor = "multi_thread")]
async fn page_of_long_events_is_bounded_by_bytes() {
    let bench = bench().await;
    let mut lease = bench.begin(started(2)).await;
    let long = || {
        let asked = "x".repeat(6 << 20);
        let by = "me".to_owned();
        Event::CommandAnswered(CommandAnswered {
            command: 1,
            step: 0,
            asked,
            by,
            waited_s: 0,
            refusal: None,
        })
    };
    for _ in 0..4 {
        lease.append(0, vec![long()]).await.unwrap();
    }
    let mut sizes = Vec::new();
    let mut next = 0;
    loop {
        let page = bench.store.read_raw(RUN, next, 1000).await.unwrap();
        let Some(last) = page.last() else { break };
        next = last.envelope.seq + 1;
        sizes.push(page.len());
    }
    assert_eq!(sizes, [4, 1], "16 MiB a page");
    assert_eq!(bench.store.verify_chain(RUN).await.unwrap().events, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_position_chain_and_epoch_are_refused_apart() {
    let mut bench = bench().await;
    let _lease = bench.begin(started(2)).await;
    let chain = bench.store.head(RUN).await.unwrap().chain;
    for (epoch, seq, chain, expected) in
        [(1, 0, chain, "ES003"), (1, 1, Digest::ZERO, "ES003"), (0, 1, chain, "ES002")]
    {
        let text = format!(
            "select append('{RUN}', {epoch}, {seq}, '\\x{chain}', array[0::bigint], array[null::bigint], \
             array[2], array[1], array[0::bigint], array['x'::bytea], array['\\x{chain}'::bytea])"
        );
        assert_eq!(code(&bench.sql(&text).await.unwrap_err()), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn second_worker_is_refused_by_name_and_a_zombie_is_fenced() {
    let mut bench = bench().await;
    let mut first = bench.begin(started(2)).await;
    let refusal = bench.store.acquire_writer(RUN).await.unwrap_err();
    assert!(
        matches!(&refusal, StoreError::Held { holder, .. }
        if holder.contains(&std::process::id().to_string())),
        "{refusal}"
    );
    bench
        .sql(&format!("update run_head set writer_epoch = 9 where run_id = '{RUN}'"))
        .await
        .unwrap();
    let refusal = first.append(0, vec![step(0)]).await.unwrap_err();
    assert!(matches!(refusal, StoreError::Fenced(_)), "{refusal}");
    first.release().await.unwrap();
    assert_eq!(bench.store.acquire_writer(RUN).await.unwrap().epoch(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn database_refuses_every_change_of_the_past() {
    let mut bench = bench().await;
    let _lease = bench.begin(started(2)).await;
    for table in ["event".to_owned(), partition()] {
        for change in ["update {} set step = 1", "delete from {}", "truncate {}"] {
            let refusal = bench.sql(&change.replace("{}", &table)).await.unwrap_err();
            assert_eq!(code(&refusal), "42501", "{change} {table}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chain_shows_a_flipped_bit_and_a_missing_event() {
    let mut bench = bench().await;
    let mut lease = bench.begin(started(2)).await;
    lease.append(0, vec![step(0), step(1)]).await.unwrap();
    // What an owner of the database can do: switch the triggers off.
    bench.sql("set session_replication_role = replica").await.unwrap();
    bench.sql("update event set payload = set_byte(payload, 9, get_byte(payload, 9) # 1) where seq = 1").await.unwrap();
    assert_eq!(bench.store.verify_chain(RUN).await.unwrap().broken.unwrap().0, 1);
    bench.sql("delete from event where seq = 1").await.unwrap();
    assert_eq!(bench.store.verify_chain(RUN).await.unwrap().broken.unwrap().0, 1);
    let beyond = "alter table event drop constraint event_attempt_fits; \
                  update event set attempt = attempt + 4294967296 where seq = 2";
    bench.sql(beyond).await.unwrap();
    let refusal = bench.store.read_raw(RUN, 2, 1).await.unwrap_err().to_string();
    assert_eq!(refusal, "column attempt is 4294967296, which no event has");
}

#[tokio::test(flavor = "multi_thread")]
async fn command_is_answered_by_an_event() {
    let bench = bench().await;
    let mut lease = bench.begin(started(2)).await;
    let id = bench.put("pause").await;
    assert_eq!(bench.store.pending_commands(RUN, 0).await.unwrap().len(), 1);
    let answer = CommandAnswered {
        command: id,
        step: 0,
        asked: "{}".into(),
        by: "me".into(),
        waited_s: 0,
        refusal: None,
    };
    lease.append(0, vec![Event::CommandAnswered(answer)]).await.unwrap();
    assert!(bench.store.pending_commands(RUN, 0).await.unwrap().is_empty());
    assert_eq!(bench.store.command_answer(id).await.unwrap(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_follows_the_event_that_ends_a_run() {
    let mut bench = bench().await;
    let mut lease = bench.begin(started(2)).await;
    let finished = || {
        let reason = "all steps are done".to_owned();
        Event::RunFinished(RunFinished { step: 1, ending: Ending::Completed, reason })
    };
    // Not even within one batch.
    let refusal = lease.append(0, vec![step(0), finished(), step(1)]).await.unwrap_err();
    assert!(matches!(refusal, StoreError::Sealed(RUN)), "{refusal}");
    lease.append(0, vec![step(0), finished()]).await.unwrap();
    assert!(bench.store.head(RUN).await.unwrap().sealed);
    for event in [step(1), finished()] {
        let refusal = lease.append(0, vec![event]).await.unwrap_err();
        assert_eq!(refusal.to_string(), format!("run {RUN} is finished and takes no more events"));
    }
    lease.release().await.unwrap();
    let refusal = bench.store.acquire_writer(RUN).await.unwrap_err();
    assert!(matches!(refusal, StoreError::Sealed(RUN)), "{refusal}");
    let report = bench.store.verify_chain(RUN).await.unwrap();
    assert_eq!((report.events, report.sealed, report.broken), (3, true, None));
    // A head that says otherwise than its log.
    bench.sql("update run_head set sealed = false").await.unwrap();
    let why = bench.store.verify_chain(RUN).await.unwrap().broken.unwrap().1;
    assert_eq!(why, "the log says that the run has ended, and the head does not");
    bench.sql("update run_head set sealed = true").await.unwrap();
    // Now the partition stands for itself: it can leave the log as a whole.
    let partition = partition();
    bench.sql(&format!("alter table event detach partition {partition}")).await.unwrap();
    assert_eq!(bench.rows(&format!("select seq from {partition}")).await.len(), 3);
}

#[test]
fn second_start_of_a_private_server_finds_it_running() {
    let cluster = cluster::Cluster::start();
    let again = PrivatePostgres::start(cluster.folder.path()).unwrap();
    assert_eq!(again.url(), cluster.postgres.url());
}

#[tokio::test(flavor = "multi_thread")]
async fn private_server_that_was_killed_is_started_again() {
    let cluster = std::sync::Arc::new(cluster::Cluster::start());
    let bench = cluster::bench_on(cluster.clone()).await;
    let _lease = bench.begin(started(2)).await;
    cluster.kill();
    assert!(cluster.pid_file().exists(), "it was not killed but ended in good order");
    cluster.restart();
    assert_eq!(bench.store.verify_chain(RUN).await.unwrap().events, 1);
}
