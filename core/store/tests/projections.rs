//! Projections say what the log says, however it was cut into batches, and charts read few rows.

mod cluster;
mod kinds;
mod samples;

use cluster::{Bench, RUN, bench};
use hm_domain::event::{Event, RunResumed};
use hm_store::Rebuilt;
use samples::started;

const TABLES: [&str; 11] = [
    "run",
    "step_metric",
    "step_rollup",
    "decision",
    "finding",
    "checkpoint",
    "rollback",
    "binding",
    "validation",
    "weight_state",
    "command",
];

fn step(step: u64) -> Event {
    Event::StepRecorded(Box::new(samples::step(step, 2)))
}

async fn tables(bench: &mut Bench) -> Vec<Vec<String>> {
    let mut found = vec![];
    for table in TABLES {
        found.push(bench.rows(&format!("select * from {table}")).await);
    }
    found
}

/// A run of two attempts with everything that can happen in one, by attempt.
fn eventful() -> Vec<(u32, Event)> {
    let mut log = vec![(0, started(2))];
    log.extend((0..70).map(|index| (0, step(index))));
    let others = kinds::every_kind().into_iter().filter(|(name, _)| {
        !["run-started", "plugin-installed", "run-finished"]
            .iter()
            .any(|kind| name.starts_with(kind))
    });
    // Numbers of steps are used once in an attempt.
    log.extend((70..).zip(others).map(|(index, (_, event))| match event {
        Event::StepRecorded(mut step) => {
            (step.step, step.draws) = (index, samples::step(index, step.draws.len()).draws);
            (0, Event::StepRecorded(step))
        }
        event => (0, event),
    }));
    // Back to the middle of a bucket.
    let resumed =
        kinds::every_kind().into_iter().find(|(name, _)| name == "run-resumed").unwrap().1;
    let Event::RunResumed(resumed) = resumed else { unreachable!() };
    log.push((1, Event::RunResumed(RunResumed { step: 45, ..resumed })));
    log.extend((45..140).map(|index| (1, step(index))));
    log.push((1, Event::StepRecorded(Box::new(kinds::step(140)))));
    let finished = kinds::every_kind().into_iter().find(|(name, _)| name == "run-finished.halted");
    log.push((1, finished.unwrap().1));
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn projections_are_recreated_to_the_last_row() {
    let mut bench = bench().await;
    let mut log = eventful();
    let count = log.len() as u64;
    let mut lease = bench.begin(log.remove(0).1).await;
    let wish = bench.put("pause").await;
    assert_eq!(wish, 1, "the samples answer command 1");
    // Batches of many sizes, so that buckets are completed within and across them.
    let mut sizes = [1, 3, 17, 2, 64, 5, 1, 1, 30].into_iter().cycle();
    while let Some(&(attempt, _)) = log.first() {
        let same = log.iter().take_while(|(other, _)| *other == attempt).count();
        let size = sizes.next().unwrap_or(1).min(same);
        let batch = log.drain(..size).map(|(_, event)| event).collect();
        lease.append(attempt, batch).await.unwrap();
    }
    let before = tables(&mut bench).await;
    for (table, rows) in TABLES.iter().zip(&before) {
        assert!(!rows.is_empty(), "{table} has no rows");
    }
    assert_eq!(bench.store.check_views(RUN).await.unwrap().differences, 0);
    let rebuilt = bench.store.rebuild(RUN).await.unwrap();
    assert_eq!(rebuilt, Rebuilt { events: count, rows: 0 }, "what is right is left alone");
    // Neither needs a row that is there, and the run is found by its log.
    bench.sql(&format!("truncate {}", TABLES[..10].join(", "))).await.unwrap();
    bench.sql("update command set answered_seq = null").await.unwrap();
    let found = bench.store.find_run("test").await.unwrap().unwrap();
    assert_eq!(found.run_id, RUN);
    let all = before.iter().take(10).map(|rows| rows.len() as u64).sum::<u64>();
    assert_eq!(bench.store.check_views(RUN).await.unwrap().differences, all);
    assert_eq!(bench.store.rebuild(RUN).await.unwrap(), Rebuilt { events: count, rows: all });
    let after = tables(&mut bench).await;
    for ((table, before), after) in TABLES.iter().zip(before).zip(after) {
        assert_eq!(after, before, "{table}");
    }
    // What the rows should say, from the events themselves.
    let run = &bench.store.run(RUN).await.unwrap().unwrap();
    assert_eq!((run.attempt, run.next_step, &run.state[..]), (1, 141, "ended"));
    assert_eq!(run.ending.as_deref(), Some("halted"));
    let findings = bench.rows("select attempt, kind, severity, domains from finding where seq = (select max(seq) from finding)").await;
    assert_eq!(findings.len(), 3);
    assert!(findings[0].contains("loss-outlier\u{fffd}"), "{findings:?}");
    let knobs = "select kind, value, effective_step, issued_by, reason from decision where value is not null";
    assert_eq!(
        bench.rows(knobs).await,
        [
            r#"{"kind": "batch-size", "value": 1056, "reason": "", "issued_by": "me", "effective_step": 9}"#,
            "{\"kind\": \"learning-rate\", \"value\": 0.00015, \"reason\": \"spikes since the new \
             segment\u{fffd}\", \"issued_by\": \"me\", \"effective_step\": 9}",
        ]
    );
    let weights = "select kind, layer, std, norm from weight_state where step = 8 and layer < 2";
    assert_eq!(
        bench.rows(weights).await,
        [
            r#"{"std": "NaN", "kind": "norm", "norm": "NaN", "layer": 0}"#,
            r#"{"std": 0.5, "kind": "q_proj", "norm": 2, "layer": 0}"#,
            r#"{"std": 0.75, "kind": "q_proj", "norm": 3, "layer": 1}"#,
        ]
    );
    let states = bench.rows("select binding, state, role from binding").await;
    assert_eq!(
        states,
        [
            r#"{"role": "active", "state": "bound", "binding": 2}"#,
            r#"{"role": "active", "state": "released", "binding": 0}"#,
            r#"{"role": "shadow", "state": "quarantined", "binding": 1}"#,
        ]
    );
}

/// The tables of the findings: a loss, a decision and a sum changed by hand.
#[tokio::test(flavor = "multi_thread")]
async fn row_changed_by_hand_is_named_and_mended_while_the_run_goes_on() {
    let mut bench = bench().await;
    let mut lease = bench.begin(started(2)).await;
    lease.append(0, (0..20).map(step).collect()).await.unwrap();
    let honest = tables(&mut bench).await;
    bench
        .sql(
            "update step_metric set loss = 0.001 where step = 3; delete from decision where step = 5; \
             update run set tokens = 0; update step_rollup set loss_sum = 1 where level = 3 and bucket = 1; \
             insert into decision select run_id, 900, receipt, effect, attempt, 77, binding, kind, version, \
             effective_step, shares, rules, reason, issued_by, value from decision where step = 6",
        )
        .await
        .unwrap();
    let report = bench.store.check_views(RUN).await.unwrap();
    let named: Vec<String> = report
        .shown
        .iter()
        .map(|row| format!("{} {} {:?}", row.table, row.key, row.column.as_deref().unwrap_or("")))
        .collect();
    let due = [
        "run  \"tokens\"",
        "step_metric attempt 0, step 3 \"loss\"",
        "step_rollup attempt 0, level 3, bucket 1 \"loss_sum\"",
        "decision seq 6, receipt 0, effect 0 \"\"",
        "decision seq 900, receipt 0, effect 0 \"\"",
    ];
    assert_eq!((report.events, report.differences), (21, 5));
    assert_eq!(named, due);
    assert_eq!((report.shown[3].found.is_some(), report.shown[3].due.is_some()), (false, true));
    let rebuilt = bench.store.rebuild(RUN).await.unwrap();
    assert_eq!(rebuilt, Rebuilt { events: 21, rows: 5 });
    assert_eq!(tables(&mut bench).await, honest);
    lease.append(0, (20..40).map(step).collect()).await.unwrap();
    assert_eq!(bench.store.check_views(RUN).await.unwrap().differences, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_roll_up_is_the_sum_of_its_steps() {
    let mut bench = bench().await;
    let mut lease = bench.begin(started(2)).await;
    let mut steps = (0..70).map(step);
    for size in [1, 6, 2, 25, 36] {
        lease.append(0, steps.by_ref().take(size).collect()).await.unwrap();
    }
    // 64 of 70 steps: 8 + 4 + 2 + 1 complete buckets.
    assert_eq!(bench.rows("select * from step_rollup").await.len(), 15);
    let wrong = "select r.level, r.bucket from step_rollup r join lateral ( \
        select count(*) as count, sum(loss) as loss, min(loss) as low, max(loss) as high, \
        max(gradient_norm) as norm, sum(step_us) as time, sum(sequences[2]) as sequences, \
        sum(loss_sums[2]) as sums, sum(loss_tokens[1]) as tokens from step_metric m \
        where m.step >= r.bucket << r.level and m.step < (r.bucket + 1) << r.level) m on true \
        where (r.loss_count, r.loss_min, r.loss_max, r.gradient_norm_max, r.step_us, r.sequences[2], \
        r.loss_tokens[1]) is distinct from (m.count, m.low, m.high, m.norm, m.time, m.sequences, m.tokens) \
        or abs(r.loss_sum - m.loss) > 1e-9 or abs(r.loss_sums[2] - m.sums) > 1e-6";
    assert_eq!(bench.rows(wrong).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn chart_takes_the_level_that_fits() {
    let bench = bench().await;
    let mut lease = bench.begin(started(2)).await;
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

/// Rows of a run of `steps` steps and 16 domains, made in the database.
async fn synthetic(bench: &mut Bench, steps: u64) {
    let _lease = bench.begin(started(16)).await;
    let lists = "array_fill(4::bigint, array[16]), array_fill(1.5::float8, array[16]), \
                 array_fill(1024::bigint, array[16])";
    let mut text = format!(
        "insert into step_metric select '{RUN}', 0, step, step + 1, step, step, 0.1, 2.5, 1, 1, \
         'proceed', 100, 0, {lists} from generate_series(0, {steps} - 1) as step; \
         update run set next_step = {steps} where run_id = '{RUN}';"
    );
    for level in (3..40).take_while(|level| steps >> level > 0) {
        text += &format!(
            "insert into step_rollup select '{RUN}', 0, {level}, bucket, 2.5, 1, 2.5, 2.5, 1, 0.1, 100, \
             {lists} from generate_series(0, {}) as bucket;",
            (steps >> level) - 1
        );
    }
    bench.sql(&text).await.unwrap();
    bench.sql("analyze").await.unwrap();
}

/// Sequential and index scans of the tables that grow with a run, once the latter are more than `than`
/// on both. A server counts a session's scans a moment after it has become idle.
async fn scans(bench: &mut Bench, than: i64) -> (i64, i64) {
    let text = "select sum(seq_scan)::bigint, min(coalesce(idx_scan, 0))::bigint \
                from pg_stat_user_tables where relname in ('step_metric', 'step_rollup')";
    for _ in 0..100 {
        let found: (i64, i64) = sqlx::query_as(text).fetch_one(&mut bench.admin).await.unwrap();
        if found.1 > than {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        bench.store.run(RUN).await.unwrap();
    }
    panic!("no index of step_metric or step_rollup was used");
}

#[tokio::test(flavor = "multi_thread")]
async fn charts_of_a_long_run_read_by_index() {
    let mut bench = bench().await;
    synthetic(&mut bench, 50_000).await;
    let mut counts = vec![(0, 0)];
    // Making the tables counts as a scan: the first round brings all that to the books.
    for _ in 0..2 {
        let whole = bench.store.metrics(RUN, None, 0, u64::MAX >> 1, 1000).await.unwrap();
        assert_eq!((whole.level, whole.points.len()), (6, 781));
        let end = bench.store.metrics(RUN, None, 49_500, 50_000, 1000).await.unwrap();
        assert_eq!((end.level, end.points.len()), (0, 500));
        let than = counts[counts.len() - 1].1;
        counts.push(scans(&mut bench, than).await);
    }
    assert_eq!(counts[1].0, counts[2].0, "a chart reads a whole table: {counts:?}");
}

/// By hand: `cargo test --release -p hm-store --test projections -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a million rows take a minute; prints figures"]
async fn first_chart_of_a_million_steps() {
    let mut bench = bench().await;
    synthetic(&mut bench, 1_000_000).await;
    for (name, from, points) in
        [("first chart", 0, 1000), ("again", 0, 1000), ("last 1000 steps", 999_000, 1000)]
    {
        let start = std::time::Instant::now();
        let runs = bench.store.runs().await.unwrap().len();
        let metrics = bench.store.metrics(RUN, None, from, 1_000_000, points).await.unwrap();
        println!(
            "{name}: {runs} run, {} points of level {}, {:.1} ms",
            metrics.points.len(),
            metrics.level,
            start.elapsed().as_secs_f64() * 1e3
        );
    }
}
