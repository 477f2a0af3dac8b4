//! What people meet before a run trains: names, workers that come at once, servers with few
//! connections, wishes that nobody answers, folders with odd names.

mod cluster;
mod samples;

use cluster::{Bench, Cluster, RUN, bench};
use hm_domain::event::{Ending, Event, RunFinished};
use hm_domain::id::RunId;
use hm_store::{FoundRun, Namesakes, PrivatePostgres, Put, Store, StoreError, Worker, WriterLease};
use samples::started;

fn other_run() -> RunId {
    RunId(uuid::Uuid::from_u128(8))
}

fn finished() -> Event {
    let reason = "all steps are done".to_owned();
    Event::RunFinished(RunFinished { step: 0, ending: Ending::Completed, reason })
}

async fn begin(
    store: &Store,
    run_id: RunId,
    namesakes: Namesakes,
) -> hm_store::Result<WriterLease> {
    store.start_run(run_id, "test", namesakes, started(2)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_that_begin_one_name_at_once_make_one_run() {
    let mut bench = bench().await;
    for round in 0..5 {
        let ids = [1, 2].map(|id| RunId(uuid::Uuid::from_u128(100 * (round + 1) + id)));
        let (a, b) = tokio::join!(
            begin(&bench.store, ids[0], Namesakes::Refused),
            begin(&bench.store, ids[1], Namesakes::Refused)
        );
        let (mut lease, refusal) = match (a, b) {
            (Ok(lease), Err(refusal)) | (Err(refusal), Ok(lease)) => (lease, refusal),
            (a, b) => panic!("{a:?} and {b:?}"),
        };
        let sentence = refusal.to_string();
        assert!(matches!(refusal, StoreError::NameTaken { .. }), "{sentence}");
        assert!(sentence.contains(&lease.run_id().to_string()), "{sentence}");
        assert!(sentence.contains(&format!("process {}", std::process::id())), "{sentence}");
        // In so many words, a second run of the name may begin; an ended one is in nobody's way.
        let beside = RunId(uuid::Uuid::from_u128(100 * (round + 1) + 3));
        let mut beside = begin(&bench.store, beside, Namesakes::Allowed).await.unwrap();
        beside.append(0, vec![finished()]).await.unwrap();
        lease.append(0, vec![finished()]).await.unwrap();
    }
    assert_eq!(bench.rows("select 1 from run_head where name = 'test'").await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_run_of_a_name_is_the_one_begun_last_whatever_clocks_say() {
    let mut bench = bench().await;
    let _first = bench.begin(started(2)).await;
    bench.sql("update run set started_at = 9000000000000000").await.unwrap();
    let found = bench.store.find_run("test").await.unwrap().unwrap();
    assert_eq!((found.run_id, found.namesakes), (RUN, 1));
    let _second = begin(&bench.store, other_run(), Namesakes::Allowed).await.unwrap();
    let name = "test".to_owned();
    let last = FoundRun { run_id: other_run(), name: name.clone(), namesakes: 2 };
    assert_eq!(bench.store.find_run("test").await.unwrap(), Some(last));
    let named = bench.store.runs_named("test").await.unwrap();
    assert_eq!(named.iter().map(|row| RunId(row.run_id)).collect::<Vec<_>>(), [other_run(), RUN]);
    assert!(bench.store.runs_named("another").await.unwrap().is_empty());
    assert_eq!(bench.store.runs().await.unwrap()[0].run_id, other_run().0);
    let by_id = FoundRun { run_id: RUN, name, namesakes: 1 };
    assert_eq!(by_id.to_string(), format!("run test ({RUN})"));
    assert_eq!(bench.store.find_run(&RUN.to_string()).await.unwrap(), Some(by_id));
    assert_eq!(bench.store.find_run("another").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn end_of_a_run_answers_what_still_waits_and_no_wish_follows_it() {
    let bench = bench().await;
    let mut lease = bench.begin(started(2)).await;
    let wishes = [bench.put("pause").await, bench.put("resume").await];
    let end = lease.append(0, vec![finished()]).await.unwrap()[0].seq;
    for wish in wishes {
        assert_eq!(bench.store.command_answer(wish).await.unwrap(), Some(end));
    }
    let body = serde_json::json!({ "command": "pause" });
    let put = bench.store.put_command(RUN, "pause", &body, "me").await.unwrap();
    assert_eq!(put, Put::Ended);
    assert!(bench.store.pending_commands(RUN, 0).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn inbox_that_nobody_empties_takes_a_hundred_wishes_and_a_stop() {
    let bench = bench().await;
    let mut lease = bench.begin(started(2)).await;
    for _ in 0..100 {
        bench.put("pause").await;
    }
    let body = serde_json::json!({ "command": "pause" });
    let put = || bench.store.put_command(RUN, "pause", &body, "me");
    assert_eq!(put().await.unwrap(), Put::Full(100));
    bench.put("stop").await;
    lease.append(0, vec![finished()]).await.unwrap();
    assert_eq!(put().await.unwrap(), Put::Ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn looker_finds_tables_as_they_are_and_makes_none() {
    let mut bench = bench().await;
    bench.sql("create database looked_at").await.unwrap();
    let url = bench.cluster.postgres.url().replace("/postgres?", "/looked_at?");
    for _ in 0..2 {
        assert!(Store::connect_to_look(&url).await.unwrap().is_none());
    }
    Store::connect(&url, 1).await.unwrap();
    assert!(Store::connect_to_look(&url).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn wish_is_put_down_while_a_workers_transaction_hangs() {
    let mut bench = bench().await;
    let mut lease = bench.begin(started(2)).await;
    bench.sql("begin; lock table step_metric in exclusive mode").await.unwrap();
    let step = Event::StepRecorded(Box::new(samples::step(0, 2)));
    let appending = tokio::spawn(async move { lease.append(0, vec![step]).await.map(|_| lease) });
    let waiting = "select 1 from pg_locks where relation = 'step_metric'::regclass and not granted";
    while bench.rows(waiting).await.is_empty() {
        assert!(!appending.is_finished(), "the append did not wait");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let patience = std::time::Duration::from_secs(20);
    let wish =
        tokio::time::timeout(patience, bench.put("pause")).await.expect("it waits for nobody");
    assert_eq!(bench.store.command_answer(wish).await.unwrap(), None);
    bench.sql("rollback").await.unwrap();
    let mut lease = appending.await.unwrap().unwrap();
    // One that slipped in behind the event that ends the run is answered by it.
    let end = lease.append(0, vec![finished()]).await.unwrap()[0].seq;
    bench.sql("update command set answered_seq = null").await.unwrap();
    assert_eq!(bench.store.command_answer(wish).await.unwrap(), Some(end));
}

#[tokio::test(flavor = "multi_thread")]
async fn living_worker_is_seen_and_one_that_is_gone_is_not() {
    let bench = bench().await;
    let lease = bench.begin(started(2)).await;
    let [other, worker] = &bench.store.workers(&[other_run(), RUN]).await.unwrap()[..] else {
        panic!("one each");
    };
    assert_eq!(*other, Worker::None);
    assert!(
        matches!(worker, Worker::Working { holder, .. }
        if holder.contains(&std::process::id().to_string())),
        "{worker:?}"
    );
    lease.release().await.unwrap();
    nobody_writes(&bench.store).await;
}

/// Waits until nobody does: the server takes a moment to end a session.
async fn nobody_writes(store: &Store) {
    for _ in 0..500 {
        if store.worker(RUN).await.unwrap().living().is_none() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("a released run is held");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_whose_worker_has_lost_its_connection_is_held_as_long_as_that_lives() {
    let mut bench = bench().await;
    drop(bench.begin(started(2)).await);
    // As another process of this host left it that waits for the database: no lock, not given back.
    let mut other = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", other.id())).unwrap();
    let began = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap();
    let here = std::process::id();
    let (was, is) = (format!("process {here} "), format!("process {} ", other.id()));
    let taken = "update run_head set holder = replace(holder, ";
    bench.sql(&format!("{taken} '{was}', '{is}'), holder_began = {began}")).await.unwrap();
    while matches!(bench.store.worker(RUN).await.unwrap(), Worker::Working { .. }) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let worker = bench.store.worker(RUN).await.unwrap();
    assert!(
        matches!(&worker, Worker::Waiting { holder, dead_in_s: None, .. } if holder.starts_with(&is)),
        "{worker:?}"
    );
    let refusal = bench.store.acquire_writer(RUN).await.unwrap_err();
    assert!(
        matches!(&refusal, StoreError::Held { holder, .. } if holder.starts_with(&is)),
        "{refusal}"
    );
    other.kill().unwrap();
    other.wait().unwrap();
    let worker = bench.store.worker(RUN).await.unwrap();
    assert!(
        matches!(&worker, Worker::Dead { holder, .. } if holder.starts_with(&is)),
        "{worker:?}"
    );
    bench.store.acquire_writer(RUN).await.unwrap().release().await.unwrap();
    assert_eq!(bench.store.worker(RUN).await.unwrap(), Worker::None, "it was given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_of_another_host_is_waited_for_and_then_counts_as_dead() {
    let mut bench = bench().await;
    drop(bench.begin(started(2)).await);
    let elsewhere = "process 7 on elsewhere";
    bench.sql(&format!("update run_head set holder = '{elsewhere}'")).await.unwrap();
    while matches!(bench.store.worker(RUN).await.unwrap(), Worker::Working { .. }) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let heard = "update worker set heard_at = clock_timestamp()";
    bench.sql(heard).await.unwrap();
    let refusal = bench.store.acquire_writer(RUN).await.unwrap_err();
    assert!(
        matches!(&refusal, StoreError::MayComeBack { holder, seconds: 1..=16, .. } if holder == elsewhere),
        "{refusal}"
    );
    bench.sql(&format!("{heard} - interval '1 minute'")).await.unwrap();
    let worker = bench.store.worker(RUN).await.unwrap();
    assert!(matches!(&worker, Worker::Dead { holder, .. } if holder == elsewhere), "{worker:?}");
    bench.store.acquire_writer(RUN).await.unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn position_beyond_any_log_is_answered_with_nothing() {
    let bench = bench().await;
    let _lease = bench.begin(started(2)).await;
    for position in [1, i64::MAX as u64, 1 << 63, u64::MAX] {
        assert!(bench.store.read(RUN, position, 10).await.unwrap().is_empty());
        let metrics = bench.store.metrics(RUN, None, position, u64::MAX, 10).await.unwrap();
        assert!(metrics.points.is_empty());
    }
}

/// A database for a user who may have so many connections.
async fn few(bench: &mut Bench, connections: u32) -> String {
    let role = format!("few{connections}");
    bench.sql(&format!("create role {role} login connection limit {connections}")).await.unwrap();
    bench.sql(&format!("create database {role} owner {role}")).await.unwrap();
    let url = bench.cluster.postgres.url();
    url.replace("heurimentor@", &format!("{role}@")).replace("/postgres?", &format!("/{role}?"))
}

#[tokio::test(flavor = "multi_thread")]
async fn server_with_few_connections_says_so_itself_and_nothing_is_half_made() {
    let mut bench = bench().await;
    // None at all: the server's own words, each once.
    let url = few(&mut bench, 0).await;
    let refusal = Store::connect(&url, 1).await.unwrap_err();
    assert!(matches!(refusal, StoreError::NoConnection(_)), "{refusal}");
    let words = "too many connections for role \"few0\"";
    assert_eq!(refusal.to_string().matches(words).count(), 1, "{refusal}");
    // One: it lists runs, and cannot have a writer beside the reader.
    let url = few(&mut bench, 1).await;
    let store = Store::connect(&url, 1).await.unwrap();
    assert!(store.runs().await.unwrap().is_empty());
    let refusal = begin(&store, RUN, Namesakes::Refused).await.unwrap_err();
    assert!(refusal.to_string().contains("too many connections"), "{refusal}");
    assert!(matches!(store.head(RUN).await, Err(StoreError::NoRun(RUN))), "a half-made run");
    // Two are enough.
    let url = few(&mut bench, 2).await;
    let store = Store::connect(&url, 1).await.unwrap();
    let mut lease = begin(&store, RUN, Namesakes::Refused).await.unwrap();
    lease.append(0, vec![finished()]).await.unwrap();
    assert_eq!(store.rebuild(RUN).await.unwrap().events, 2);
    assert_eq!(store.runs().await.unwrap().len(), 1);
}

#[test]
fn private_server_lives_in_a_folder_of_any_name() {
    use std::os::unix::ffi::OsStringExt as _;
    let cluster = Cluster::start();
    let name = [&b"it's \"odd\", $HOME `id` ; % \xe6\x95\xb0 \xff "[..], &[b'x'; 150]].concat();
    let odd = cluster.folder.path().join(std::ffi::OsString::from_vec(name));
    let postgres = PrivatePostgres::start(&odd).unwrap();
    assert!(postgres.url().is_ascii() && !postgres.url().contains([' ', '\'', '%']));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let connect =
        || runtime.block_on(async { Store::connect(postgres.url(), 1).await?.runs().await });
    let runs = connect();
    PrivatePostgres::stop_in(&odd).unwrap();
    let stopped = connect();
    assert_eq!(runs.unwrap(), []);
    assert!(stopped.is_err(), "it was stopped");
}
