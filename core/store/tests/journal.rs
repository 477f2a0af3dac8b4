//! The journal through killed connections, stopped and crashed servers: nothing lost, nothing doubled,
//! and an end to its patience.

mod cluster;
mod samples;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cluster::{Bench, Cluster, RUN, bench, bench_on};
use hm_domain::event::{Event, RunPaused};
use hm_domain::id::Digest;
use hm_store::{Journal, JournalLimits, StoreError};
use samples::started;

fn step(step: u64) -> Event {
    Event::StepRecorded(Box::new(samples::step(step, 2)))
}

/// A journal of a new run, and what it has to say.
async fn journal(bench: &Bench, limits: JournalLimits) -> (Journal, Arc<Mutex<Vec<String>>>) {
    let lease = bench.begin(started(2)).await;
    let said = Arc::new(Mutex::new(Vec::new()));
    let log = said.clone();
    let notice = move |notice: &str| log.lock().unwrap().push(notice.to_owned());
    let handle = tokio::runtime::Handle::current();
    (Journal::open(lease, handle, limits, Arc::default(), notice), said)
}

/// How often a journal has said something.
fn count(said: &Mutex<Vec<String>>, words: &str) -> usize {
    said.lock().unwrap().iter().filter(|notice| notice.contains(words)).count()
}

/// Waits until a journal has said something more often than so many times.
fn wait_for(said: &Mutex<Vec<String>>, words: &str, times: usize) {
    let begun = Instant::now();
    while count(said, words) <= times {
        assert!(begun.elapsed() < Duration::from_secs(120), "`{words}` is never said");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn journal_survives_its_connection_with_nothing_lost_or_doubled() {
    let mut bench = bench().await;
    let limits =
        JournalLimits { lag_events_max: 64, lag_ms_max: 60_000, ..JournalLimits::default() };
    let (mut journal, said) = journal(&bench, limits).await;
    let writer = std::thread::spawn(move || {
        journal.commit(0, vec![step(0)], vec![b"state".to_vec()]).unwrap();
        for index in 1..1000 {
            journal.record(0, vec![step(index)], vec![]).unwrap();
        }
        journal.close().unwrap();
    });
    let (mut killed, mut seen) = (0, -1);
    while !writer.is_finished() {
        // Only after some progress, or a slow machine would come to nothing.
        let text = "select count(*) from event";
        let written: i64 = sqlx::query_scalar(text).fetch_one(&mut bench.admin).await.unwrap();
        if written == seen {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        }
        seen = written;
        // Whoever holds a writer's lock is a writer.
        let text = "select count(pg_terminate_backend(l.pid)) from pg_locks l join pg_database d \
                    on d.oid = l.database where locktype = 'advisory' and datname = current_database()";
        killed += sqlx::query_scalar::<_, i64>(text).fetch_one(&mut bench.admin).await.unwrap();
    }
    writer.join().unwrap();
    assert!(killed > 0 && !said.lock().unwrap().is_empty(), "no connection was killed");
    let report = bench.store.verify_chain(RUN).await.unwrap();
    assert_eq!((report.events, report.broken), (1001, None));
    assert_eq!(bench.store.blob(Digest::of(b"state")).await.unwrap().unwrap(), b"state");
}

#[tokio::test(flavor = "multi_thread")]
async fn journal_survives_its_server_with_nothing_lost_or_doubled() {
    let cluster = Arc::new(tokio::task::spawn_blocking(Cluster::start).await.unwrap());
    let bench = bench_on(cluster.clone()).await;
    let limits = JournalLimits { lag_ms_max: 200, ..JournalLimits::default() };
    let (mut journal, said) = journal(&bench, limits).await;
    let going_on = Arc::new(AtomicBool::new(true));
    let going = going_on.clone();
    let (begun, begins) = std::sync::mpsc::channel();
    let writer = std::thread::spawn(move || {
        begun.send(()).unwrap();
        let mut index = 0;
        while going.load(Ordering::Relaxed) {
            journal.record(0, vec![step(index)], vec![]).unwrap();
            index += 1;
            std::thread::sleep(Duration::from_millis(1));
        }
        journal.close().unwrap();
        index
    });
    let heard = said.clone();
    tokio::task::spawn_blocking(move || {
        begins.recv().unwrap();
        for crash in [false, true] {
            let outages = count(&heard, "trying again");
            if crash {
                cluster.crash();
            } else {
                cluster.postgres.stop().unwrap();
            }
            wait_for(&heard, "trying again", outages);
            wait_for(&heard, "the run waits for it", 0);
            cluster.restart();
            wait_for(&heard, "the log is written again", outages);
            wait_for(&heard, "the log has caught up", 0);
        }
    })
    .await
    .unwrap();
    going_on.store(false, Ordering::Relaxed);
    let steps: u64 = tokio::task::spawn_blocking(|| writer.join().unwrap()).await.unwrap();
    let said = said.lock().unwrap().join("\n");
    for sentence in [
        "trying again for 300 s",
        "at most 4096, 64 MiB and 200 ms are allowed: the run waits for it",
        "the log is written again, after",
        "the log has caught up: the run goes on after",
    ] {
        assert!(said.contains(sentence), "`{sentence}` is not in:\n{said}");
    }
    let report = bench.store.verify_chain(RUN).await.unwrap();
    assert_eq!(report.broken, None);
    assert_eq!(report.events, 1 + steps);
    let points = bench.store.metrics(RUN, None, 0, 100_000, 100_000).await.unwrap().points;
    assert!(points.iter().map(|point| point.step).eq(0..steps as i64), "a step is lost or doubled");
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_fails_with_a_sentence_when_patience_is_over() {
    let cluster = Arc::new(tokio::task::spawn_blocking(Cluster::start).await.unwrap());
    let bench = bench_on(cluster.clone()).await;
    let limits = JournalLimits { patience_ms: 1500, ..JournalLimits::default() };
    let (mut journal, _) = journal(&bench, limits).await;
    let (refusals, waited) = tokio::task::spawn_blocking(move || {
        journal.commit(0, vec![step(0)], vec![]).unwrap();
        cluster.postgres.stop().unwrap();
        let start = Instant::now();
        let paused = || Event::RunPaused(RunPaused { step: 1 });
        let refusals = [(); 2].map(|()| journal.commit(0, vec![paused()], vec![]).unwrap_err());
        let waited = start.elapsed();
        assert!(journal.close().is_err());
        cluster.restart();
        (refusals, waited)
    })
    .await
    .unwrap();
    assert!((1400..60_000).contains(&waited.as_millis()), "{waited:?}");
    for refusal in refusals {
        assert!(matches!(refusal, StoreError::JournalStopped(_)), "{refusal}");
        let sentence = refusal.to_string();
        for part in
            ["could not be written for 2 s", "1 events from seq 2 on", "start the run again"]
        {
            assert!(sentence.contains(part), "`{part}` is not in: {sentence}");
        }
    }
    // What was acknowledged is there, and the run can go on.
    let mut lease = bench.store.acquire_writer(RUN).await.unwrap();
    assert_eq!(lease.head().next_seq, 2);
    lease.append(0, vec![step(1)]).await.unwrap();
    assert_eq!(bench.store.verify_chain(RUN).await.unwrap().broken, None);
}

/// A server that hangs refuses nothing: the connection is given up, and the next one is answered.
#[tokio::test(flavor = "multi_thread")]
async fn journal_survives_a_server_that_hangs() {
    let cluster = Arc::new(tokio::task::spawn_blocking(Cluster::start).await.unwrap());
    let bench = bench_on(cluster.clone()).await;
    let limits = JournalLimits { attempt_ms: 500, ..JournalLimits::default() };
    let (mut journal, said) = journal(&bench, limits).await;
    tokio::task::spawn_blocking(move || {
        journal.commit(0, vec![step(0)], vec![]).unwrap();
        cluster.freeze();
        let thaw = std::thread::spawn(move || {
            wait_for(&said, "has not answered", 0);
            cluster.thaw();
        });
        journal.commit(0, vec![step(1)], vec![]).unwrap();
        thaw.join().unwrap();
        journal.close().unwrap();
    })
    .await
    .unwrap();
    let report = bench.store.verify_chain(RUN).await.unwrap();
    assert_eq!((report.events, report.broken), (3, None));
}

/// A run that is paused writes nothing, and yet may not lose its lock without taking it again.
#[tokio::test(flavor = "multi_thread")]
async fn idle_journal_holds_its_run_through_a_restart_of_the_server() {
    let cluster = Arc::new(tokio::task::spawn_blocking(Cluster::start).await.unwrap());
    let bench = bench_on(cluster.clone()).await;
    let limits = JournalLimits { heartbeat_ms: 100, ..JournalLimits::default() };
    let (mut journal, said) = journal(&bench, limits).await;
    let journal = tokio::task::spawn_blocking(move || {
        journal.commit(0, vec![step(0)], vec![]).unwrap();
        cluster.postgres.stop().unwrap();
        wait_for(&said, "trying again", 0);
        cluster.restart();
        wait_for(&said, "the log is written again", 0);
        journal
    })
    .await
    .unwrap();
    let refusal = bench.store.acquire_writer(RUN).await.unwrap_err();
    assert!(matches!(refusal, StoreError::Held { .. }), "{refusal}");
    journal.check().unwrap();
    tokio::task::spawn_blocking(move || journal.close().unwrap()).await.unwrap();
}

/// Ctrl-C, while the database is gone: nobody waits for five minutes.
#[tokio::test(flavor = "multi_thread")]
async fn journal_that_is_asked_to_end_is_less_patient() {
    let cluster = Arc::new(tokio::task::spawn_blocking(Cluster::start).await.unwrap());
    let bench = bench_on(cluster.clone()).await;
    let lease = bench.begin(started(2)).await;
    let limits = JournalLimits { hurried_patience_ms: 1000, ..JournalLimits::default() };
    let hurried = Arc::new(AtomicBool::new(false));
    let handle = tokio::runtime::Handle::current();
    let mut journal = Journal::open(lease, handle, limits, hurried.clone(), |_| {});
    let refusal = tokio::task::spawn_blocking(move || {
        journal.commit(0, vec![step(0)], vec![]).unwrap();
        cluster.postgres.stop().unwrap();
        let waits = std::thread::spawn(move || journal.commit(0, vec![step(1)], vec![]));
        hurried.store(true, Ordering::Relaxed);
        let refusal = waits.join().unwrap().unwrap_err();
        cluster.restart();
        refusal
    })
    .await
    .unwrap();
    assert!(refusal.to_string().contains("could not be written for 1 s"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn short_steps_share_a_transaction_and_a_commit_does_not_wait_for_company() {
    let mut bench = bench().await;
    let limits = JournalLimits { group_ms: 60_000, lag_ms_max: 60_000, ..JournalLimits::default() };
    let (mut journal, _) = journal(&bench, limits).await;
    let start = Instant::now();
    tokio::task::spawn_blocking(move || {
        for index in 0..100 {
            journal.record(0, vec![step(index)], vec![]).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        journal.commit(0, vec![Event::RunPaused(RunPaused { step: 100 })], vec![]).unwrap();
        journal.close().unwrap();
    })
    .await
    .unwrap();
    assert!(start.elapsed() < Duration::from_secs(30), "a commit waited for company");
    let transactions = bench.rows("select distinct xmin::text from event where seq > 0 and run_id <> '00000000-0000-0000-0000-000000000000'").await;
    assert_eq!(transactions.len(), 1, "{transactions:?}");
}

/// A server that took over from another without its last transactions, as an asynchronous copy does.
#[tokio::test(flavor = "multi_thread")]
async fn journal_writes_again_what_a_failover_lost() {
    let mut bench = bench().await;
    let (mut journal, said) = journal(&bench, JournalLimits::default()).await;
    let mut journal = tokio::task::spawn_blocking(move || {
        for index in 0..4 {
            journal.commit(0, vec![step(index)], vec![]).unwrap();
        }
        journal
    })
    .await
    .unwrap();
    // The last two of them are gone, with all that was derived from them.
    bench
        .sql(
            "set session_replication_role = replica; \
             update run_head h set next_seq = 3, chain = e.prev_hash from event e \
             where e.run_id = h.run_id and e.seq = 3; \
             delete from event where seq >= 3; delete from step_metric where seq >= 3; \
             delete from decision where seq >= 3; \
             select pg_terminate_backend(l.pid) from pg_locks l join pg_database d on d.oid = l.database \
             where locktype = 'advisory' and datname = current_database()",
        )
        .await
        .unwrap();
    tokio::task::spawn_blocking(move || {
        journal.commit(0, vec![step(4)], vec![]).unwrap();
        journal.close().unwrap();
    })
    .await
    .unwrap();
    let lost = "lost 2 events that it had acknowledged: they are written again";
    assert_eq!(count(&said, lost), 1, "{:?}", said.lock().unwrap());
    let report = bench.store.verify_chain(RUN).await.unwrap();
    assert_eq!((report.events, report.broken), (6, None));
    assert_eq!(bench.store.check_views(RUN).await.unwrap().differences, 0);
}

/// What was acknowledged and is held no more cannot be written again, and nothing is invented for it.
#[tokio::test(flavor = "multi_thread")]
async fn journal_ends_with_a_sentence_where_another_has_written() {
    let mut bench = bench().await;
    let (mut journal, _) = journal(&bench, JournalLimits::default()).await;
    let mut journal = tokio::task::spawn_blocking(move || {
        journal.commit(0, vec![step(0)], vec![]).unwrap();
        journal
    })
    .await
    .unwrap();
    bench
        .sql(
            "update run_head set next_seq = 0, chain = decode(repeat('00', 32), 'hex') where next_seq = 2; \
             select pg_terminate_backend(l.pid) from pg_locks l join pg_database d on d.oid = l.database \
             where locktype = 'advisory' and datname = current_database()",
        )
        .await
        .unwrap();
    let refusal = tokio::task::spawn_blocking(move || journal.commit(0, vec![step(1)], vec![]))
        .await
        .unwrap()
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("lost events that it had acknowledged, from seq 0 on"), "{refusal}");
}

/// Cancelled, a statement says so; the journal asks again.
#[tokio::test(flavor = "multi_thread")]
async fn journal_survives_a_statement_that_is_cancelled() {
    let mut bench = bench().await;
    let (mut journal, said) = journal(&bench, JournalLimits::default()).await;
    bench.sql("begin; select 1 from run_head for update").await.unwrap();
    let writing = std::thread::spawn(move || {
        journal
            .commit(0, vec![step(0)], vec![b"b".to_vec(), b"a".to_vec(), b"b".to_vec()])
            .unwrap();
        journal.close().unwrap();
    });
    let cancel = "select pg_cancel_backend(pid) from pg_locks where not granted";
    while count(&said, "trying again") == 0 {
        bench.rows(cancel).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bench.sql("rollback").await.unwrap();
    tokio::task::spawn_blocking(|| writing.join().unwrap()).await.unwrap();
    assert_eq!(bench.store.verify_chain(RUN).await.unwrap().events, 2);
}
