//! The log on a real PostgreSQL: a private cluster in a temporary folder, a database per test.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use hm_domain::batch::{Cursor, DomainDraw};
use hm_domain::event::*;
use hm_domain::id::{BindingId, Digest, RunId};
use hm_domain::mixture::Mixture;
use hm_domain::plugin::{Action, Change, Outcome, Output};
use hm_domain::step::{LossSums, PreStep, Verdict};
use hm_store::{Journal, JournalLimits, PrivatePostgres, Store, StoreError};
use sqlx::{Connection as _, Row as _};

struct Cluster {
    postgres: PrivatePostgres,
    _folder: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.postgres.stop();
    }
}

/// One cluster as long as any test uses it.
fn cluster() -> Arc<Cluster> {
    static CLUSTER: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut slot = CLUSTER.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(cluster) = slot.upgrade() {
        return cluster;
    }
    let folder = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    let postgres = PrivatePostgres::start(folder.path()).unwrap();
    // A second start finds it running.
    assert_eq!(PrivatePostgres::start(folder.path()).unwrap().url(), postgres.url());
    let cluster = Arc::new(Cluster { postgres, _folder: folder });
    *slot = Arc::downgrade(&cluster);
    cluster
}

struct Bench {
    store: Store,
    admin: sqlx::PgConnection,
    _cluster: Arc<Cluster>,
}

async fn bench() -> Bench {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let cluster = tokio::task::spawn_blocking(cluster).await.unwrap();
    let name = format!("t{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let mut root = sqlx::PgConnection::connect(cluster.postgres.url()).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("create database {name}")))
        .execute(&mut root)
        .await
        .unwrap();
    let url = cluster.postgres.url().replace("/postgres?", &format!("/{name}?"));
    let store = Store::connect(&url).await.unwrap();
    let admin = sqlx::PgConnection::connect(&url).await.unwrap();
    Bench { store, admin, _cluster: cluster }
}

impl Bench {
    async fn sql(&mut self, text: &str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(sqlx::AssertSqlSafe(text.to_owned()))
            .execute(&mut self.admin)
            .await
            .map(|_| ())
    }

    async fn rows(&mut self, query: &str) -> Vec<String> {
        let text = format!("select to_jsonb(t)::text as j from ({query}) t order by 1");
        let rows = sqlx::query(sqlx::AssertSqlSafe(text)).fetch_all(&mut self.admin).await.unwrap();
        rows.iter().map(|row| row.get("j")).collect()
    }
}

const RUN: RunId = RunId(uuid::Uuid::from_u128(7));

fn partition() -> String {
    format!("event_{}", RUN.0.simple())
}

fn started() -> Event {
    let spec = include_str!("spec.json").to_owned();
    let environment = Environment {
        build: Digest::ZERO,
        device: "cpu".into(),
        processor: "p".into(),
        instruction_set: "avx2".into(),
        c_library: "glibc".into(),
        threads: 1,
        host: "h".into(),
        process: 1,
    };
    let prior = Mixture::from_shares(0, &[0.5, 0.5]).unwrap();
    Event::RunStarted(RunStarted { spec, prior, environment, parent: None })
}

fn step(step: u64) -> Event {
    let cursor = Cursor::default();
    let draw = DomainDraw { sequences: 4, from: cursor, to: cursor, carry: 0 };
    let losses = vec![LossSums { loss_sum: 0.1 * step as f64, loss_square_sum: 1.0, tokens: 8 }; 2];
    let mixture = Mixture::from_shares(step + 1, &[0.25, 0.75]).unwrap();
    let receipt = Receipt {
        binding: BindingId(0),
        hook: Hook::Step,
        from_seq: 1,
        to_seq: step,
        dropped: 0,
        state_before: Digest::ZERO,
        state_after: Digest::of(b"s"),
        outcome: Outcome::Ok,
        fuel: 9,
        output: Output::Actions(vec![Action {
            change: Change::SetMixture(vec![1.0, 3.0]),
            reason: "because\0".into(),
            diagnostics: vec![("x".into(), f64::NAN)],
        }]),
        effects: vec![Effect::Mixture { mixture, effective_step: step + 1, rules: vec![] }],
    };
    Event::StepRecorded(Box::new(StepRecorded {
        step,
        tokens: 16 * (step + 1),
        learning_rate: 0.1,
        mixture_version: step,
        draws: vec![draw.clone(), draw],
        batch: Digest::of(b"batch"),
        pre_step: PreStep {
            loss: 0.1 * step as f64,
            gradient_norm: 1.0,
            nonfinite_count: 0,
            losses,
        },
        verdict: Verdict::Proceed,
        effective_clip: 1.0,
        step_us: 5,
        receipts: vec![receipt],
    }))
}

fn code(error: &sqlx::Error) -> String {
    error.as_database_error().unwrap().code().unwrap().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn appended_events_read_back_and_chain() {
    let bench = bench().await;
    let mut lease = bench.store.start_run(RUN, "r").await.unwrap();
    let mut written = lease.append(0, vec![started()]).await.unwrap();
    written.extend(lease.append(0, (0..5).map(step).collect()).await.unwrap());
    let read = bench.store.read(RUN, 0, 100).await.unwrap();
    assert_eq!(read.iter().map(|r| r.seq).collect::<Vec<_>>(), (0..6).collect::<Vec<_>>());
    // NaN differs from itself, so compare what people would see.
    assert_eq!(format!("{read:?}"), format!("{written:?}"));
    let report = bench.store.verify_chain(RUN).await.unwrap();
    assert_eq!((report.events, report.broken), (6, None));
    assert_eq!(bench.store.find_unfinished("test").await.unwrap(), Some(RUN));
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_position_chain_and_epoch_are_refused_apart() {
    let mut bench = bench().await;
    let mut lease = bench.store.start_run(RUN, "r").await.unwrap();
    lease.append(0, vec![started()]).await.unwrap();
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
    let mut first = bench.store.start_run(RUN, "r").await.unwrap();
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
    let refusal = first.append(0, vec![started()]).await.unwrap_err();
    assert!(matches!(refusal, StoreError::Fenced(_)), "{refusal}");
    first.release().await.unwrap();
    assert_eq!(bench.store.acquire_writer(RUN).await.unwrap().epoch(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn database_refuses_every_change_of_the_past() {
    let mut bench = bench().await;
    let mut lease = bench.store.start_run(RUN, "r").await.unwrap();
    lease.append(0, vec![started()]).await.unwrap();
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
    let mut lease = bench.store.start_run(RUN, "r").await.unwrap();
    lease.append(0, vec![started(), step(0), step(1)]).await.unwrap();
    // What an owner of the database can do: switch the triggers off.
    bench.sql("set session_replication_role = replica").await.unwrap();
    bench.sql("update event set payload = set_byte(payload, 9, get_byte(payload, 9) # 1) where seq = 1").await.unwrap();
    assert_eq!(bench.store.verify_chain(RUN).await.unwrap().broken.unwrap().0, 1);
    bench.sql("delete from event where seq = 1").await.unwrap();
    assert_eq!(bench.store.verify_chain(RUN).await.unwrap().broken.unwrap().0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn journal_survives_its_connection_with_nothing_lost_or_doubled() {
    let mut bench = bench().await;
    let lease = bench.store.start_run(RUN, "r").await.unwrap();
    let handle = tokio::runtime::Handle::current();
    let notices = Arc::new(AtomicU32::new(0));
    let count = notices.clone();
    let notice = move |_: &str| {
        count.fetch_add(1, Ordering::Relaxed);
    };
    let limits = JournalLimits { lag_events_max: 64, lag_ms_max: 60_000 };
    let mut journal = Journal::open(bench.store.clone(), lease, handle, limits, notice);
    let writer = std::thread::spawn(move || {
        journal.commit(0, vec![started()], vec![b"state".to_vec()]).unwrap();
        for index in 0..2000 {
            journal.record(0, vec![step(index)], vec![]).unwrap();
        }
        journal.close().unwrap();
    });
    let mut killed = 0;
    while !writer.is_finished() {
        // Whoever holds a writer's lock is a writer.
        let text = "select count(pg_terminate_backend(l.pid)) from pg_locks l join pg_database d \
                    on d.oid = l.database where locktype = 'advisory' and datname = current_database()";
        killed += sqlx::query_scalar::<_, i64>(text).fetch_one(&mut bench.admin).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(120)).await;
    }
    writer.join().unwrap();
    assert!(killed > 0 && notices.load(Ordering::Relaxed) > 0, "no connection was killed");
    let report = bench.store.verify_chain(RUN).await.unwrap();
    assert_eq!((report.events, report.broken), (2001, None));
    assert_eq!(bench.store.blob(Digest::of(b"state")).await.unwrap().unwrap(), b"state");
}

#[tokio::test(flavor = "multi_thread")]
async fn projections_are_recreated_to_the_last_row() {
    let mut bench = bench().await;
    let mut lease = bench.store.start_run(RUN, "r").await.unwrap();
    lease.append(0, vec![started()]).await.unwrap();
    lease.append(0, (0..70).map(step).collect()).await.unwrap();
    let tables = ["run", "step_metric", "step_rollup", "decision"];
    let mut before = vec![];
    for table in tables {
        before.push(bench.rows(&format!("select * from {table}")).await);
    }
    // 64 of 70 steps: 8 + 4 + 2 + 1 complete buckets.
    assert_eq!(before.iter().map(Vec::len).collect::<Vec<_>>(), [1, 70, 15, 70]);
    let sum = bench.rows("select loss_count, loss_tokens from step_rollup where level = 6").await;
    assert_eq!(sum, [r#"{"loss_count": 64, "loss_tokens": [512, 512]}"#]);
    assert_eq!(bench.store.rebuild(RUN).await.unwrap(), 71);
    for (table, before) in tables.iter().zip(before) {
        assert_eq!(bench.rows(&format!("select * from {table}")).await, before, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn command_is_answered_by_an_event() {
    let bench = bench().await;
    let mut lease = bench.store.start_run(RUN, "r").await.unwrap();
    lease.append(0, vec![started()]).await.unwrap();
    let id = bench.store.put_command(RUN, "pause", &serde_json::json!({}), "me").await.unwrap();
    assert_eq!(bench.store.pending_commands(RUN, 0).await.unwrap().len(), 1);
    let answer = CommandAnswered {
        command: id,
        step: 0,
        asked: "{}".into(),
        by: "me".into(),
        refusal: None,
    };
    lease.append(0, vec![Event::CommandAnswered(answer)]).await.unwrap();
    assert!(bench.store.pending_commands(RUN, 0).await.unwrap().is_empty());
    assert_eq!(bench.store.command_answer(id).await.unwrap(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn chart_takes_the_level_that_fits() {
    let bench = bench().await;
    let mut lease = bench.store.start_run(RUN, "r").await.unwrap();
    lease.append(0, vec![started()]).await.unwrap();
    lease.append(0, (0..70).map(step).collect()).await.unwrap();
    let fine = bench.store.metrics(RUN, None, 0, 100, 100).await.unwrap();
    assert_eq!((fine.level, fine.points.len()), (0, 70));
    let coarse = bench.store.metrics(RUN, None, 0, 100, 10).await.unwrap();
    assert_eq!((coarse.level, coarse.points.len(), coarse.points[1].step), (3, 8, 8));
    assert_eq!(bench.store.decisions(RUN, 5).await.unwrap()[0]["step"], 69);
    assert_eq!(bench.store.runs().await.unwrap()[0].next_step, 70);
    assert!(bench.store.findings(RUN, 5).await.unwrap().is_empty());
    assert!(bench.store.checkpoints(RUN).await.unwrap().is_empty());
    assert!(bench.store.bindings(RUN).await.unwrap().is_empty());
    assert!(bench.store.validations(RUN).await.unwrap().is_empty());
}

#[test]
fn stored_bytes_of_released_kinds_do_not_change() {
    for (event, golden) in [(started(), GOLDEN_STARTED), (step(3), GOLDEN_STEP)] {
        let (kind, version, payload) = hm_store::codec::encode(&event);
        assert_eq!(Digest::of(&payload).to_string(), golden, "kind {kind}");
        let back = hm_store::codec::decode(kind, version, &payload).unwrap();
        assert_eq!(format!("{back:?}"), format!("{event:?}"));
        // Decoding validates: cut or foreign bytes are an error, never a panic.
        assert!(hm_store::codec::decode(kind, version, &payload[..payload.len() / 2]).is_err());
        assert!(hm_store::codec::decode(kind, 2, &payload).is_err());
    }
}

const GOLDEN_STARTED: &str = "494bb197003168821c6e863c915ed5bfc305cd04716e5e2ed8632e01023628a1";
const GOLDEN_STEP: &str = "73e413934c29c3285576a6a92147dfb68c575f3d0b57fdd976d9f5054c9e2f4d";
