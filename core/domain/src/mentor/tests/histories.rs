//! Whole histories of a run on a toy trainer and a toy disk, thousands of them, each from one seed: steps,
//! wishes, checkpoints that are written while training goes on, ways back, and a worker that dies anywhere.
//! Whatever happens, the run ends as one that nothing happened to, and its log audits clean.

use super::*;
use crate::attempt::{ReturnPoint, way};
use crate::follow::BY_RUN_FILE;

const STEPS: u64 = 40;
const CHECKPOINT_EVERY: u64 = 6;

/// Numbers that look like chance and are the same for a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = mixed(self.0);
        self.0 % end
    }

    fn happens(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The toy's weights: a number that every step mixes with all that the step was.
type Weights = u64;

/// Where their loss is, and nowhere else.
fn loss_of(weights: Weights) -> f64 {
    1.0 + (weights % 1000) as f64 / 1000.0
}

fn trained(weights: Weights, step: &StepRecorded) -> Weights {
    let draws = format!("{:?} {:?} {:?}", step.draws, step.learning_rate, step.verdict);
    let digest = Digest::of(draws.as_bytes());
    mixed(weights ^ u64::from_le_bytes(digest.0[..8].try_into().unwrap()))
}

/// A checkpoint on the toy disk.
#[derive(Clone)]
struct Saved {
    point: ReturnPoint,
    weights: Weights,
}

/// One that is being written.
struct Writing {
    begun: u64,
    step: u64,
    state: Vec<u8>,
    weights: Weights,
}

/// What a person asks for, and before which step.
type Plan = Vec<(u64, Command)>;

/// One run's life.
struct Life {
    run: Run,
    weights: Weights,
    /// Events that are on disk for sure.
    durable: usize,
    writing: Option<Writing>,
    saved: Vec<Saved>,
    plan: Plan,
    deaths: u32,
    /// Checkpoints that could not be saved.
    failed: u32,
    /// How often it was taken up from a checkpoint that lies before a way back.
    from_before_a_turn: u32,
}

impl Life {
    fn begin(plan: Plan) -> Life {
        let mut spec = spec(2);
        spec.training.steps = STEPS;
        spec.decision_lag = 1;
        spec.validation.every_steps = 7;
        let (run, weights) = (Run::of(spec), 1);
        let mut life = Life {
            run,
            weights,
            durable: 0,
            writing: None,
            saved: Vec::new(),
            plan,
            deaths: 0,
            failed: 0,
            from_before_a_turn: 0,
        };
        life.run.bind();
        life.durable = life.run.log.len();
        life
    }

    fn state(&self) -> &RunState {
        self.run.mentor.state()
    }

    fn answered(&self) -> usize {
        let by_person = |recorded: &&Recorded| matches!(&recorded.event, Event::CommandAnswered(it) if it.command != BY_RUN_FILE);
        self.run.log.iter().filter(by_person).count()
    }

    /// One turn of the loop: what is asked, one step, what is due.
    fn turn(&mut self, chance: &mut Chance) {
        // The first wish was to bind the policy.
        while let Some((step, command)) = self.plan.get(self.answered() - 1).cloned()
            && step <= self.state().next_step
        {
            self.obey(command);
        }
        self.run.step_with_loss(loss_of(self.weights));
        let newest = self.run.log.iter().rev().find_map(|recorded| match &recorded.event {
            Event::StepRecorded(step) => Some((**step).clone()),
            _ => None,
        });
        self.weights = trained(self.weights, &newest.expect("a step was trained"));
        if self.writing.is_some() && chance.happens(40) {
            self.end_or_fail_checkpoint(chance);
        }
        if self.state().next_step.is_multiple_of(CHECKPOINT_EVERY) {
            self.end_or_fail_checkpoint(chance);
            self.begin_checkpoint();
            let step = self.state().next_step;
            let is_gone_back_to = |(_, command): &(u64, Command)| matches!(command, Command::Rollback { to, .. } if *to == step);
            // One that is lost with its worker cannot be gone back to: that would be another history.
            if self.plan.iter().any(is_gone_back_to) {
                self.end_checkpoint();
            }
        }
    }

    fn obey(&mut self, command: Command) {
        // It waits for what is being written, as a worker does.
        self.end_checkpoint();
        match command {
            Command::Rollback { to, skip_data, .. } => {
                let back = self.saved.iter().rev().find(|saved| saved.point.saved.step == to);
                let back = back.cloned().expect("the plan goes back to what is on record");
                assert_eq!(self.run.go_back(&back.point, skip_data), None);
                self.weights = back.weights;
            }
            other => assert_eq!(self.run.command(other), None),
        }
        self.durable = self.run.log.len();
    }

    fn begin_checkpoint(&mut self) {
        let kept = self.run.mentor.keep_states();
        self.run.take(kept);
        let (step, state) = (self.state().next_step, self.state().snapshot());
        let begun = self.run.begin_checkpoint();
        self.durable = self.run.log.len();
        self.writing = Some(Writing { begun, step, state, weights: self.weights });
    }

    /// Now and then the disk is full. One that is gone back to is ended before this is asked.
    fn end_or_fail_checkpoint(&mut self, chance: &mut Chance) {
        if self.writing.is_none() || !chance.happens(20) {
            return self.end_checkpoint();
        }
        let Some(Writing { step, .. }) = self.writing.take() else { return };
        let reason = "the disk is full".to_owned();
        self.run.event(Event::CheckpointFailed(CheckpointFailed { step, reason }));
        (self.durable, self.failed) = (self.run.log.len(), self.failed + 1);
    }

    fn end_checkpoint(&mut self) {
        let Some(Writing { begun, step, state, weights }) = self.writing.take() else { return };
        let digest = Digest::of(&weights.to_le_bytes());
        let saved = crate::made::checkpoint(self.state(), (begun, step), (digest, 1));
        let seq = self.run.log.len() as u64;
        self.run.event(Event::CheckpointSaved(saved.clone()));
        self.durable = self.run.log.len();
        let digest = Digest::of(&state);
        self.saved.push(Saved { point: ReturnPoint { seq, saved, digest, state }, weights });
    }

    /// The worker dies: of what was not on disk for sure, some is and the rest never was. Another takes the
    /// run up, from the newest checkpoint or, where that is damaged, from an older one or the beginning.
    fn die_and_rise(&mut self, chance: &mut Chance) {
        self.deaths += 1;
        let open = (self.run.log.len() - self.durable) as u64;
        let mut left = self.durable + chance.below(open + 1) as usize;
        // Steps and what follows upon them are written together.
        while left < self.run.log.len() && !stands_alone(&self.run.log[left].event) {
            left += 1;
        }
        self.run.log.truncate(left);
        self.writing = None;
        let (from, state, weights) = self.caught_up(chance);
        let next = from.as_ref().map_or(1, |saved| saved.point.saved.begun);
        assert_eq!(state.next_seq, self.run.log.len() as u64);
        let Event::RunStarted(started) = &self.run.log[0].event else { panic!("no start") };
        let saved = from.map(|saved| saved.point.saved);
        let checkpoint_step = saved.as_ref().map_or(0, |saved| saved.step);
        let resumed = RunResumed {
            step: state.next_step,
            checkpoint: saved.map(|saved| saved.digest),
            checkpoint_step,
            folded_from: next,
            caught_up_steps: state.next_step - checkpoint_step,
            agreed: true,
            difference_max: 0.0,
            passed_over: Vec::new(),
            environment: started.environment.clone(),
        };
        self.rise(state, weights);
        self.run.event(Event::RunResumed(resumed));
        self.durable = self.run.log.len();
    }

    /// What a worker comes to that takes the run up: all of the log is folded from there on, and of its steps
    /// those are trained that led to its end.
    fn caught_up(&mut self, chance: &mut Chance) -> (Option<Saved>, RunState, Weights) {
        let turns = self.turns();
        let way = way(&turns, self.run.log.len() as u64);
        let leads_here = |seq: u64| way.iter().any(|part| part.contains(&seq));
        let passed_over = usize::from(chance.happens(30)) + usize::from(chance.happens(10));
        let candidates = self.saved.iter().filter(|saved| leads_here(saved.point.saved.begun));
        let from = candidates.rev().nth(passed_over).cloned();
        let (mut state, mut weights, next) = match &from {
            Some(Saved { point, weights }) => {
                (RunState::from_snapshot(&point.state).unwrap(), *weights, point.saved.begun)
            }
            None => (RunState::start(&self.run.log[0].event).unwrap(), 1, 1),
        };
        self.from_before_a_turn += u32::from(turns.last().is_some_and(|(seq, _)| next < *seq));
        for recorded in &self.run.log[next as usize..] {
            match &recorded.event {
                Event::StepRecorded(step) if leads_here(recorded.seq) => {
                    assert_lived(&state, step, weights);
                    weights = trained(weights, step);
                }
                _ => {}
            }
            state.apply(&recorded.event);
        }
        (from, state, weights)
    }

    /// Ways back: the seq of each, and of the begin of the checkpoint that it went to.
    fn turns(&self) -> Vec<(u64, u64)> {
        let turn = |recorded: &Recorded| match &recorded.event {
            Event::RolledBack(back) => Some((recorded.seq, back.checkpoint.begun)),
            _ => None,
        };
        self.run.log.iter().filter_map(turn).collect()
    }

    fn rise(&mut self, state: RunState, weights: Weights) {
        let mut mentor = Mentor::new(state, self.run.plugins.clone());
        // A scripted policy's state is how often it was called.
        let bytes = |digest: Digest| {
            (0..=u8::MAX).map(|count| vec![count]).find(|bytes| Digest::of(bytes) == digest)
        };
        let live = mentor.state().bindings.iter().filter(|(_, binding)| binding.live);
        let live: Vec<_> = live.map(|(&id, binding)| (id, binding.state)).collect();
        for (id, digest) in live {
            mentor.restore(id, bytes(digest).expect("a count of calls"));
        }
        (self.run.mentor, self.weights) = (mentor, weights);
    }

    /// All that may differ between lives is left out.
    fn story(&self) -> (Weights, Vec<String>) {
        let told = |recorded: &Recorded| {
            let mut event = recorded.event.clone();
            match &mut event {
                Event::StepRecorded(step) => {
                    for receipt in &mut step.receipts {
                        (receipt.from_seq, receipt.to_seq) = (0, 0);
                    }
                }
                Event::ValidationRecorded(_) | Event::MixtureSet(_) => {}
                _ => return None,
            }
            Some(format!("{} {event:?}", recorded.attempt))
        };
        (self.weights, self.run.log.iter().filter_map(told).collect())
    }
}

/// A step comes to what the log says of it.
fn assert_lived(state: &RunState, step: &StepRecorded, weights: Weights) {
    let pre_step = &step.pre_step;
    let losses = losses(pre_step, loss_of(weights));
    let now = weighted_loss(&losses, &state.loss_weights, tokens(pre_step));
    assert_eq!(now.to_bits(), pre_step.loss.to_bits(), "step {}", step.step);
    assert_eq!(state.next_step, step.step);
}

/// Whether a transaction may begin with it.
fn stands_alone(event: &Event) -> bool {
    !matches!(
        event,
        Event::BindingQuarantined(_)
            | Event::PluginStateSaved(_)
            | Event::BindingChanged(_)
            | Event::RolledBack(_)
            | Event::MixtureSet(_)
            | Event::LearningRateSet(_)
            | Event::RunPaused(_)
            | Event::RunContinued(_)
    )
}

fn losses(pre_step: &PreStep, loss: f64) -> Vec<LossSums> {
    pre_step
        .losses
        .iter()
        .map(|sums| match sums.tokens {
            0 => LossSums::default(),
            tokens => even(loss, tokens),
        })
        .collect()
}

fn tokens(pre_step: &PreStep) -> f64 {
    pre_step.losses.iter().map(|sums| sums.tokens).sum::<u64>() as f64
}

/// What a person asks for in a run of this seed.
fn plan(chance: &mut Chance) -> Plan {
    let mut plan: Plan = Vec::new();
    let reason = String::new;
    for _ in 0..chance.below(4) {
        let step = chance.below(STEPS - 10);
        let command = match chance.below(2) {
            0 => Command::SetMixture { shares: vec![0.25, 0.75], reason: reason() },
            _ => Command::SetLearningRate { peak: 2e-3, reason: reason() },
        };
        plan.push((step, command));
    }
    if chance.happens(60) {
        let back = CHECKPOINT_EVERY * (1 + chance.below(3));
        let step = back + 1 + chance.below(9);
        let skip_data = chance.happens(40);
        plan.push((step, Command::Rollback { to: back, skip_data, reason: reason() }));
    }
    // In the order in which they are come to: what is asked before the way back is not asked again after it.
    plan.sort_by_key(|(step, _)| *step);
    plan
}

fn lived_through(seed: u64, deaths_percent: u64) -> Life {
    let plan = plan(&mut Chance(mixed(seed)));
    let mut chance = Chance(mixed(!seed));
    let mut life = Life::begin(plan);
    while life.state().next_step < STEPS {
        life.turn(&mut chance);
        if life.deaths < 20 && chance.happens(deaths_percent) {
            life.die_and_rise(&mut chance);
        }
    }
    life.run.validate_if_due();
    life
}

#[test]
fn thousands_of_histories_end_as_if_nothing_had_happened() {
    let (mut deaths, mut failed, mut from_before_a_turn) = (0, 0, 0);
    for seed in 0..500 {
        let (calm, storm) = (lived_through(seed, 0), lived_through(seed, 15));
        deaths += storm.deaths;
        failed += storm.failed;
        from_before_a_turn += storm.from_before_a_turn;
        assert_eq!(storm.story(), calm.story(), "seed {seed}, {} deaths", storm.deaths);
        if seed % 5 == 0 {
            let proofs = storm.run.audit();
            assert_eq!(proofs.first, None, "seed {seed}");
            assert_eq!((proofs.diverged, proofs.not_provable), (0, 0), "seed {seed}");
        }
    }
    assert!(deaths > 1000, "{deaths} deaths");
    assert!(failed > 100, "{failed} checkpoints failed");
    assert!(from_before_a_turn > 100, "{from_before_a_turn} times from before a way back");
}
