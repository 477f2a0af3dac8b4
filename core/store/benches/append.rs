//! How fast the log takes events, side by side with a bare batched INSERT of the same rows.
//!
//!     cargo bench -p hm-store --bench append -- [EVENTS] [ROUNDS]
//!
//! Every round takes every arm in turn, in one process and one database: the bare INSERT, the lease
//! and the journal without projections (on the system stream, which has none), and both with them (on
//! a run). Medians over rounds, ratios within each round. Uses `DATABASE_URL` if set (a scratch database
//! is made and dropped there), else a private cluster in a temporary folder.

#[path = "../tests/samples/mod.rs"]
mod samples;

use std::time::{Duration, Instant};

use hm_domain::event::Event;
use hm_domain::id::RunId;
use hm_store::{
    Journal, JournalLimits, Namesakes, PrivatePostgres, Store, StoredEvent, WriterLease,
};
use sqlx::{Connection as _, PgConnection};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const DOMAINS: usize = 16;
const BATCH_EVENTS: usize = 256;
/// Steps of the paced run, one every [`PACE`]: a small model on a fast machine.
const PACED_STEPS: u64 = 300;
const PACE: Duration = Duration::from_millis(10);
/// Milliseconds that an event waits for company, to choose from. The paced run takes each once.
const GROUPS_MS: [u64; 4] = [0, 50, 200, 1000];

/// Ways to write, in the order they are taken. The first is what the others are held against.
const ARMS: [&str; 5] = [
    "bare batched INSERT",
    "lease without projections",
    "journal without projections",
    "lease with projections",
    "journal with projections",
];

struct Bench {
    store: Store,
    admin: PgConnection,
    runs: u128,
}

fn main() -> Result<()> {
    // `cargo bench` adds a flag of its own.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let mut number = |otherwise: usize| match arguments.next() {
        Some(text) => text.parse().map_err(|_| format!("`{text}` is not a number")),
        None => Ok(otherwise),
    };
    let (events, rounds) = (number(4096)?, number(7)?);
    let folder = tempfile::tempdir()?;
    // The server runs as another user when this one is root.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), mode)?;
    let given = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
    let private = match given {
        Some(_) => None,
        None => Some(PrivatePostgres::start(folder.path())?),
    };
    let url = given.unwrap_or_else(|| private.as_ref().map(|p| p.url().to_owned()).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let measured = runtime.block_on(measure(&url, events, rounds));
    if let Some(private) = private {
        private.stop()?;
    }
    measured
}

async fn measure(url: &str, events: usize, rounds: usize) -> Result<()> {
    let name = format!("hm_bench_{}", std::process::id());
    let mut root = PgConnection::connect(url).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("create database {name}")))
        .execute(&mut root)
        .await?;
    let (front, query) = url.split_once('?').map_or((url, ""), |(front, query)| (front, query));
    let (server, _) = front.rsplit_once('/').ok_or("the URL names no database")?;
    let scratch = format!("{server}/{name}?{query}");
    let measured = measure_in(&scratch, events, rounds).await;
    let text = format!("drop database {name} with (force)");
    sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut root).await?;
    measured
}

async fn measure_in(url: &str, events: usize, rounds: usize) -> Result<()> {
    let store = Store::connect(url, 2).await?;
    let mut admin = PgConnection::connect(url).await?;
    // The same columns as every event has, stored alike, and no more.
    sqlx::raw_sql(
        "create table bare (run_id uuid not null, seq bigint not null, attempt bigint not null, \
         step bigint, kind integer not null, schema_version integer not null, \
         recorded_at bigint not null, writer_epoch bigint not null, payload bytea not null, \
         prev_hash bytea not null, hash bytea not null, primary key (run_id, seq)) \
         with (toast_tuple_target = 8160); alter table bare alter payload set storage external",
    )
    .execute(&mut admin)
    .await?;
    let mut bench = Bench { store, admin, runs: 0 };
    let steps: Vec<Event> = (0..events as u64)
        .map(|step| Event::StepRecorded(Box::new(samples::step(step, DOMAINS))))
        .collect();
    let rows = bench.rows(&steps).await?;
    let payload_bytes = rows.iter().map(|row| row.payload.len()).sum::<usize>() / rows.len().max(1);

    let mut rates = vec![Vec::new(); ARMS.len()];
    for round in 0..=rounds {
        for (arm, rates) in rates.iter_mut().enumerate() {
            let took = bench.arm(arm, &steps, &rows).await?;
            // The first round warms caches and is not counted.
            if round > 0 {
                rates.push(events as f64 / took.as_secs_f64());
            }
        }
    }
    let bytes_per_event = bench.bytes_per_event(events).await?;
    let mut paced = Vec::new();
    for group_ms in GROUPS_MS {
        paced.push(bench.paced(group_ms).await?);
    }
    report(&rates, (events, rounds), payload_bytes, &bytes_per_event, &paced);
    Ok(())
}

impl Bench {
    /// The rows that these events become: made once, outside of every measurement.
    async fn rows(&mut self, steps: &[Event]) -> Result<Vec<StoredEvent>> {
        let run_id = self.new_run();
        let mut lease = self.begin(run_id, "rows").await?;
        for batch in steps.chunks(BATCH_EVENTS) {
            lease.append(0, batch.to_vec()).await?;
        }
        Ok(self.store.read_raw(run_id, 1, steps.len() as u64).await?)
    }

    async fn begin(&self, run_id: RunId, name: &str) -> hm_store::Result<WriterLease> {
        let started = samples::started(DOMAINS);
        self.store.start_run(run_id, name, Namesakes::Allowed, started).await
    }

    fn new_run(&mut self) -> RunId {
        self.runs += 1;
        RunId(uuid::Uuid::from_u128(self.runs))
    }

    async fn arm(&mut self, arm: usize, steps: &[Event], rows: &[StoredEvent]) -> Result<Duration> {
        if arm == 0 {
            return self.bare(rows).await;
        }
        let (with_journal, with_projections) = (arm.is_multiple_of(2), arm > 2);
        let run_id = if with_projections { self.new_run() } else { RunId::SYSTEM };
        let mut lease = if with_projections {
            self.begin(run_id, "bench").await?
        } else {
            self.store.acquire_writer(run_id).await?
        };
        let steps = steps.to_vec();
        let took = if with_journal {
            let limits = JournalLimits::default();
            let handle = tokio::runtime::Handle::current();
            let mut journal =
                Journal::open(lease, handle, limits, std::sync::Arc::default(), |_| {});
            tokio::task::spawn_blocking(move || {
                let start = Instant::now();
                for step in steps {
                    journal.record(0, vec![step], vec![])?;
                }
                journal.flush()?;
                let took = start.elapsed();
                journal.close().map(|()| took)
            })
            .await??
        } else {
            let start = Instant::now();
            let mut steps = steps.into_iter().peekable();
            while steps.peek().is_some() {
                lease.append(0, steps.by_ref().take(BATCH_EVENTS).collect()).await?;
            }
            let took = start.elapsed();
            lease.release().await?;
            took
        };
        Ok(took)
    }

    /// The yardstick: one INSERT from arrays per batch, committed.
    async fn bare(&mut self, rows: &[StoredEvent]) -> Result<Duration> {
        let run = self.new_run();
        let start = Instant::now();
        for batch in rows.chunks(BATCH_EVENTS) {
            let envelopes = || batch.iter().map(|row| &row.envelope);
            let mut transaction = self.admin.begin().await?;
            sqlx::query(
                "insert into bare select $1, * from unnest($2::bigint[], $3::bigint[], $4::bigint[], \
                 $5::integer[], $6::integer[], $7::bigint[], $8::bigint[], $9::bytea[], $10::bytea[], \
                 $11::bytea[])",
            )
            .bind(run.0)
            .bind(envelopes().map(|e| e.seq as i64).collect::<Vec<_>>())
            .bind(envelopes().map(|e| i64::from(e.attempt)).collect::<Vec<_>>())
            .bind(envelopes().map(|e| e.step.map(|step| step as i64)).collect::<Vec<_>>())
            .bind(envelopes().map(|e| i32::from(e.kind)).collect::<Vec<_>>())
            .bind(envelopes().map(|e| i32::from(e.schema_version)).collect::<Vec<_>>())
            .bind(envelopes().map(|e| e.recorded_at).collect::<Vec<_>>())
            .bind(envelopes().map(|e| e.writer_epoch as i64).collect::<Vec<_>>())
            .bind(batch.iter().map(|row| &row.payload[..]).collect::<Vec<_>>())
            .bind(batch.iter().map(|row| &row.prev_hash.0[..]).collect::<Vec<_>>())
            .bind(batch.iter().map(|row| &row.hash.0[..]).collect::<Vec<_>>())
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
        }
        Ok(start.elapsed())
    }

    /// A run of short steps: what one record costs the loop's thread, and how often the disk is asked.
    async fn paced(&mut self, group_ms: u64) -> Result<Paced> {
        let run_id = self.new_run();
        let lease = self.begin(run_id, "paced").await?;
        let handle = tokio::runtime::Handle::current();
        let limits = JournalLimits { group_ms, ..JournalLimits::default() };
        let mut journal = Journal::open(lease, handle, limits, std::sync::Arc::default(), |_| {});
        let before = self.syncs().await?;
        let backend: i32 =
            sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut self.admin).await?;
        let server = stat(backend).ok_or("the server's processes are not on this machine")?.parent;
        let (mut costs_us, cpu_ms) = tokio::task::spawn_blocking(move || {
            let (mut costs_us, cpu) = (Vec::new(), cpu_ms(server));
            for step in 0..PACED_STEPS {
                std::thread::sleep(PACE);
                let event = Event::StepRecorded(Box::new(samples::step(step, DOMAINS)));
                let start = Instant::now();
                journal.record(0, vec![event], vec![])?;
                costs_us.push(start.elapsed().as_secs_f64() * 1e6);
            }
            // Before its session ends, and with it what the server knows of it.
            journal.flush()?;
            let cpu_ms = cpu_ms(server) - cpu;
            journal.close().map(|()| (costs_us, cpu_ms))
        })
        .await??;
        // The server's counters are published once a second.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let syncs = self.syncs().await? - before;
        costs_us.sort_by(f64::total_cmp);
        Ok(Paced {
            group_ms,
            record_us: costs_us[costs_us.len() / 2],
            record_p99_us: costs_us[costs_us.len() * 99 / 100],
            syncs_per_step: syncs as f64 / PACED_STEPS as f64,
            cpu_us_per_step: cpu_ms * 1e3 / PACED_STEPS as f64,
        })
    }

    /// What one run of `events` steps takes on the disk with its indexes, by table. All runs are alike.
    async fn bytes_per_event(&mut self, events: usize) -> Result<Vec<(String, f64)>> {
        let run = RunId(uuid::Uuid::from_u128(1));
        let partition = format!("event_{}", run.0.simple());
        let runs: i64 =
            sqlx::query_scalar("select count(*) from run").fetch_one(&mut self.admin).await?;
        let mut found = Vec::new();
        for (table, runs) in
            [(&partition[..], 1), ("step_metric", runs), ("step_rollup", runs), ("decision", runs)]
        {
            let text = "select pg_total_relation_size($1::text::regclass)";
            let bytes: i64 =
                sqlx::query_scalar(text).bind(table).fetch_one(&mut self.admin).await?;
            let name = if table == partition { "event" } else { table };
            found.push((name.to_owned(), bytes as f64 / (runs as f64 * events as f64)));
        }
        Ok(found)
    }

    async fn syncs(&mut self) -> Result<i64> {
        let text = "select wal_sync from pg_stat_wal";
        Ok(sqlx::query_scalar(text).fetch_one(&mut self.admin).await?)
    }
}

#[derive(serde::Serialize)]
struct Paced {
    group_ms: u64,
    record_us: f64,
    record_p99_us: f64,
    syncs_per_step: f64,
    /// Of this process and of all of the server's.
    cpu_us_per_step: f64,
}

/// What the system says of a process (Linux).
struct Stat {
    parent: i32,
    cpu_ms: f64,
}

fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<i64> =
        text.rsplit_once(") ")?.1.split(' ').skip(1).flat_map(str::parse).collect();
    // Ticks are hundredths of a second wherever Linux has been asked.
    Some(Stat { parent: fields[0] as i32, cpu_ms: (fields[10] + fields[11]) as f64 * 10.0 })
}

/// Processor time so far of this process and of the children of `server`.
fn cpu_ms(server: i32) -> f64 {
    let own = std::process::id() as i32;
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| stat(pid).filter(|stat| pid == own || stat.parent == server))
        .map(|stat| stat.cpu_ms)
        .sum()
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn report(
    rates: &[Vec<f64>],
    (events, rounds): (usize, usize),
    payload_bytes: usize,
    bytes_per_event: &[(String, f64)],
    paced: &[Paced],
) {
    println!(
        "{events} steps of {DOMAINS} domains ({payload_bytes} bytes each), {rounds} rounds, \
         {BATCH_EVENTS} events a transaction"
    );
    let mut arms = serde_json::Map::new();
    for (name, own) in ARMS.iter().zip(rates) {
        let ratios: Vec<f64> = own.iter().zip(&rates[0]).map(|(own, bare)| own / bare).collect();
        let (rate, ratio) = (median(own), median(&ratios));
        println!("{name:28} {rate:9.0} events/s  {ratio:5.2} of the bare INSERT");
        let figures = serde_json::json!({ "events_per_second": rate, "ratio": ratio });
        arms.insert((*name).to_owned(), figures);
    }
    for (table, bytes) in bytes_per_event {
        println!("{table:28} {bytes:9.0} bytes on disk per step");
    }
    for Paced { group_ms, record_us, record_p99_us, syncs_per_step, cpu_us_per_step } in paced {
        println!(
            "a step every {} ms, grouped by {group_ms} ms: {record_us:.1} us in the loop's thread per \
             record (99 %: {record_p99_us:.1} us), {syncs_per_step:.2} disk syncs and {cpu_us_per_step:.0} us \
             of processors per step, the server's included",
            PACE.as_millis()
        );
    }
    let figures = serde_json::json!({
        "events": events,
        "rounds": rounds,
        "payload_bytes": payload_bytes,
        "bytes_per_event": bytes_per_event.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "arms": arms,
        "paced": paced,
    });
    println!("{figures}");
}
