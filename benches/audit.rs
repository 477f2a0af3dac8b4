//! How many decisions an audit executes a second: a log of many steps and domains, one ODM, from the
//! database to the verdict, as `hm audit` does it.

use std::sync::Arc;
use std::time::Instant;

use hm_domain::batch::{Batch, Cursor, DomainDraw};
use hm_domain::command::{Asked, Candidate, Command};
use hm_domain::event::*;
use hm_domain::id::{Digest, RunId};
use hm_domain::made;
use hm_domain::mentor::{Decided, Mentor};
use hm_domain::mixture::{Mixture, quotas};
use hm_domain::plugin::Limits;
use hm_domain::spec::{DomainSpec, RunSpec, SegmentSpec};
use hm_domain::state::RunState;
use hm_domain::step::{LossSums, PreStep, TrainReport, weighted_loss};
use hm_host::Host;
use hm_store::{Journal, JournalLimits, Namesakes, Store};
use hm_train::preset;

use crate::figures::{median, spread};
use crate::place::{Place, component};

const DOMAINS: usize = 16;
const SEQUENCES: u32 = 64;
const STEPS: u64 = 20_000;
const ROUNDS: usize = 5;

/// Prints steps per second of both levels.
pub(crate) fn measure() {
    let place = Place::new();
    place.ok(&["plugin", "install", component("odm").to_str().expect("a path of text")]);
    write_log(place.ok(&["db", "url"]).trim());
    let mut rates = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        for (level, rates) in ["chain", "decisions"].iter().zip(&mut rates) {
            let start = Instant::now();
            let report = place.audit("bench", &["--level", level, "--strict"], 0);
            rates.push(STEPS as f64 / start.elapsed().as_secs_f64());
            assert_eq!(report["verdict"], "proved");
        }
    }
    let share: Vec<f64> = rates[1].iter().zip(&rates[0]).map(|(all, chain)| all / chain).collect();
    println!(
        "audit of {STEPS} steps, {DOMAINS} domains, one odm, as a whole process, {ROUNDS} rounds:"
    );
    println!("  chain alone          {:>24} steps/s", spread(&rates[0], 0));
    println!(
        "  chain and decisions  {:>24} steps/s, {:.2} of the chain alone",
        spread(&rates[1], 0),
        median(&share)
    );
}

/// A run's log without training: what the trainer would have reported is made up, all else is real.
fn write_log(url: &str) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let store = runtime.block_on(Store::connect(url, 1)).expect("the database answers");
    let host = Host::new(Limits::default()).expect("the engine starts");
    let loaded =
        host.load(&std::fs::read(component("odm")).expect("odm is built")).expect("it loads");
    let candidate = Candidate {
        plugin: loaded.digest,
        world: loaded.world,
        interface: loaded.interface,
        description: loaded.description,
        engine: host.fingerprint(),
        limits: host.limits().clone(),
    };
    let started = started();
    let state = RunState::start(&started).expect("a spec");
    let id = RunId(uuid::Uuid::now_v7());
    let starting = store.start_run(id, "bench", Namesakes::Allowed, started);
    let lease = runtime.block_on(starting).expect("a run");
    let handle = runtime.handle().clone();
    let mut journal =
        Journal::open(lease, handle, JournalLimits::default(), Arc::default(), |_| {});
    let mut mentor = Mentor::new(state, Arc::new(host));
    let command = Command::Bind {
        plugin: "odm".to_owned(),
        config: serde_json::json!({}),
        role: Role::Active,
        failure: FailurePolicy::default(),
        reason: String::new(),
    };
    let asked = Asked { number: 1, by: "bench".to_owned(), command, waited_s: 0 };
    let bound = mentor.answer(&asked, Ok(candidate));
    record(&mut journal, &mut mentor, bound);
    for _ in 0..STEPS {
        validate(&mut journal, &mut mentor);
        let batch = batch(mentor.state());
        let pre_step = pre_step(mentor.state(), &batch);
        let verdict = mentor.gate(&pre_step);
        let report = TrainReport { pre_step, verdict, effective_clip: 1.0, step_us: 100_000 };
        let decided = mentor.decide(&batch, &report).expect("a step as it follows");
        record(&mut journal, &mut mentor, decided);
    }
    validate(&mut journal, &mut mentor);
    let kept = mentor.keep_states();
    record(&mut journal, &mut mentor, kept);
    let begun = mentor.state().next_seq;
    let begin = CheckpointBegun { step: STEPS, state: mentor.state().digest() };
    let begin = Decided { events: vec![Event::CheckpointBegun(begin)], states: Vec::new() };
    record(&mut journal, &mut mentor, begin);
    let saved = made::checkpoint(mentor.state(), (begun, STEPS), (Digest::ZERO, 0));
    let saved = Event::CheckpointSaved(saved);
    record(&mut journal, &mut mentor, Decided { events: vec![saved], states: Vec::new() });
    let ended = Event::RunFinished(RunFinished {
        step: STEPS,
        ending: Ending::Completed,
        reason: "all steps are done".to_owned(),
    });
    record(&mut journal, &mut mentor, Decided { events: vec![ended], states: Vec::new() });
    journal.close().expect("all is on disk");
}

fn record(journal: &mut Journal, mentor: &mut Mentor, decided: Decided) {
    let recorded = journal.record(0, decided.events, decided.states).expect("it is chained");
    recorded.iter().for_each(|recorded| mentor.apply(&recorded.event));
}

fn started() -> Event {
    let one = crate::run_spec::spec(preset("nano").expect("a preset"), SEQUENCES);
    let domain = |index: usize| DomainSpec {
        name: format!("domain-{index}"),
        prior: 1.0 / DOMAINS as f64,
        ..one.domains[0].clone()
    };
    let mut spec = RunSpec { domains: (0..DOMAINS).map(domain).collect(), ..one };
    spec.training.steps = STEPS;
    Event::RunStarted(RunStarted {
        spec: serde_json::to_string(&spec).expect("plain data"),
        prior: Mixture::from_shares(0, &[1.0; DOMAINS]).expect("equal shares"),
        environment: Environment {
            build: Digest::ZERO,
            device: "none".to_owned(),
            processor: String::new(),
            instruction_set: String::new(),
            c_library: String::new(),
            threads: 1,
            host: String::new(),
            process: std::process::id(),
        },
        parent: None,
    })
}

fn validate(journal: &mut Journal, mentor: &mut Mentor) {
    if mentor.state().validation_is_due() {
        let validation = made::validation(mentor.state(), &[LossSums::default(); DOMAINS]);
        let event = Event::ValidationRecorded(validation);
        record(journal, mentor, Decided { events: vec![event], states: Vec::new() });
    }
}

/// A batch as the sampler would have drawn it under the mixture in force, but for the tokens.
fn batch(state: &RunState) -> Batch {
    let mut carries = state.carries.clone();
    let counts = quotas(&state.mixture, SEQUENCES, &mut carries);
    let draws = (0..counts.len()).map(|index| {
        let (from, sequences) = (state.cursors[index], counts[index]);
        // Documents of one length, in order.
        let SegmentSpec { tokens, documents, .. } = state.spec.domains[index].segments[0];
        let drawn = state.domain_tokens[index] + state.spec.tokens_of(u64::from(sequences));
        let rest = drawn % tokens;
        let rank = rest * documents / tokens;
        let token_offset = rest - (rank * tokens).div_ceil(documents).min(rest);
        let to = Cursor { epoch: (drawn / tokens) as u32, segment: 0, rank, token_offset };
        let to = if sequences > 0 { to } else { from };
        DomainDraw { sequences, from, to, carry: carries[index] }
    });
    Batch { sequences: Vec::new(), draws: draws.collect() }
}

fn pre_step(state: &RunState, batch: &Batch) -> PreStep {
    let length = u64::from(state.spec.model.sequence_length);
    let losses: Vec<LossSums> = (0..DOMAINS)
        .map(|domain| {
            let loss = 2.0 + ((state.next_step as f64 + domain as f64 * 7.0) * 0.01).sin();
            let tokens = u64::from(batch.draws[domain].sequences) * length;
            let loss_sum = loss * tokens as f64;
            match tokens {
                0 => LossSums::default(),
                _ => LossSums {
                    loss_sum,
                    loss_square_sum: loss_sum * loss_sum / tokens as f64,
                    tokens,
                },
            }
        })
        .collect();
    let tokens = losses.iter().map(|sums| sums.tokens).sum::<u64>() as f64;
    let loss = weighted_loss(&losses, &state.loss_weights, tokens);
    PreStep { loss, gradient_norm: 1.0, nonfinite_count: 0, losses }
}
