//! A run without a trainer: a scripted policy behind the port, and batches with quotas only.

use super::*;

/// Doubles the first domain's share each call; its state counts calls. Faults while `faulty` is 1, and
/// is not there to be called while it is 2.
#[derive(Default)]
pub(super) struct Scripted {
    pub(super) faulty: AtomicU64,
    pub(super) described: Mutex<BTreeMap<Digest, Description>>,
}

impl Plugins for Scripted {
    fn describe(&self, plugin: &Digest) -> Option<(World, String, Description)> {
        let watches = *plugin == Digest::of(b"watching");
        let world = if watches { World::Detector } else { World::Policy };
        let described = self.described.lock().unwrap().get(plugin).cloned();
        described.map(|description| (world, "0.1.0".to_owned(), description))
    }

    fn call(&self, plugin: &Digest, request: &Request) -> Reply {
        let ok = |state: Vec<u8>, output| Reply {
            outcome: Outcome::Ok,
            fuel: 7,
            value: Some((state, output)),
        };
        let absent = || Outcome::NotCalled("not loaded".to_owned());
        match request {
            _ if self.faulty.load(Ordering::Relaxed) == 2 || !self.is_there(plugin) => {
                Reply { outcome: absent(), fuel: 0, value: None }
            }
            Request::Init { .. } => ok(vec![0], Output::Nothing),
            // It always fails.
            Request::Step { .. } if *plugin == Digest::of(b"failing") => {
                Reply { outcome: Outcome::OutOfFuel, fuel: 9, value: None }
            }
            Request::Step { .. } | Request::Watch { .. } | Request::Gate { .. }
                if self.faulty.load(Ordering::Relaxed) > 0 =>
            {
                Reply { outcome: Outcome::OutOfFuel, fuel: 9, value: None }
            }
            Request::Step { state, observations } => {
                let last = observations.entries.last().expect("called with something to see");
                let mut shares = last.shares.clone();
                shares[0] *= 2.0;
                let action = Action {
                    change: Change::SetMixture(shares),
                    reason: "scripted".to_owned(),
                    diagnostics: vec![("seen".to_owned(), observations.entries.len() as f64)],
                };
                ok(vec![state[0] + 1], Output::Actions(vec![action]))
            }
            Request::Gate { state, .. } => ok(state.clone(), Output::Verdict(Verdict::Proceed)),
            // A detector tells what it was shown.
            Request::Watch { state, observations, .. } => {
                ok(state.clone(), Output::Findings(weights::told(observations)))
            }
        }
    }
}

impl Scripted {
    pub(super) fn is_there(&self, plugin: &Digest) -> bool {
        self.described.lock().unwrap().contains_key(plugin)
    }

    pub(super) fn knows(&self, candidate: &Candidate) {
        let described = candidate.description.clone();
        self.described.lock().unwrap().insert(candidate.plugin, described);
    }
}

pub(super) struct Run {
    pub(super) mentor: Mentor,
    pub(super) log: Vec<Recorded>,
    pub(super) states: BTreeMap<Digest, Vec<u8>>,
    pub(super) plugins: Arc<Scripted>,
    pub(super) wishes: u64,
}

/// Sums of sequences that all lose as much.
pub(super) fn even(loss: f64, tokens: u64) -> LossSums {
    let loss_sum = loss * tokens as f64;
    LossSums { loss_sum, loss_square_sum: loss_sum * loss_sum / tokens as f64, tokens }
}

impl Run {
    pub(super) fn start() -> Run {
        Run::of(spec(2))
    }

    pub(super) fn of(spec: RunSpec) -> Run {
        let started = Event::RunStarted(RunStarted {
            spec: serde_json::to_string(&spec).unwrap(),
            prior: crate::limits::first_mixture(&spec).unwrap().mixture,
            environment: Environment {
                build: Digest::ZERO,
                device: String::new(),
                processor: String::new(),
                instruction_set: String::new(),
                c_library: String::new(),
                threads: 1,
                host: String::new(),
                process: 1,
            },
            parent: None,
        });
        let plugins = Arc::new(Scripted::default());
        let state = RunState::start(&started).unwrap();
        let log = vec![Recorded { seq: 0, attempt: 0, recorded_at: 0, event: started }];
        let mentor = Mentor::new(state, plugins.clone());
        let mut run = Run { mentor, log, states: BTreeMap::new(), plugins, wishes: 0 };
        if run.mentor.state().plugins_to_bind().is_empty() {
            run.validate_if_due();
        }
        run
    }

    pub(super) fn validate_if_due(&mut self) {
        self.validate_with_loss(2.0);
    }

    pub(super) fn validate_with_loss(&mut self, loss: f64) {
        let state = self.mentor.state();
        if state.validation_is_due() {
            let mut validation = crate::made::validation(state, &[LossSums::default(); 16]);
            for sums in validation.losses.iter_mut().filter(|sums| sums.tokens > 0) {
                *sums = even(loss, sums.tokens).canonical();
            }
            let event = Event::ValidationRecorded(validation);
            self.take(Decided { events: vec![event], states: Vec::new() });
        }
    }

    pub(super) fn take(&mut self, decided: Decided) {
        for bytes in decided.states {
            self.states.insert(Digest::of(&bytes), bytes);
        }
        for event in decided.events {
            let attempt = self.mentor.state().attempt;
            self.mentor.apply(&event);
            let seq = self.log.len() as u64;
            self.log.push(Recorded { seq, attempt, recorded_at: 0, event });
        }
    }

    pub(super) fn command(&mut self, command: Command) -> Option<String> {
        let name = match &command {
            Command::Bind { plugin, .. } => plugin.clone(),
            _ => "scripted".to_owned(),
        };
        let candidate = Candidate {
            plugin: Digest::of(name.as_bytes()),
            world: World::Policy,
            interface: "0.1.0".to_owned(),
            description: Description {
                name,
                version: "1.0.0".to_owned(),
                documentation: String::new(),
                config_schema: "{}".to_owned(),
                columns: vec!["loss_sum".to_owned()],
                every_steps: 2,
                gates: false,
                watches: false,
                wants_timings: false,
            },
            engine: Digest::ZERO,
            limits: Limits::default(),
        };
        self.plugins.knows(&candidate);
        let asked = self.asked(command);
        let decided = self.mentor.answer(&asked, Ok(candidate));
        let Event::CommandAnswered(answered) = &decided.events[0] else { panic!("no answer") };
        let refusal = answered.refusal.clone();
        self.take(decided);
        refusal
    }

    pub(super) fn asked(&mut self, command: Command) -> Asked {
        let of_file = self.mentor.state().plugins_to_bind().front();
        if of_file.is_some_and(|plugin| plugin.wish() == command) {
            return Asked { number: BY_RUN_FILE, by: RUN_FILE.to_owned(), command, waited_s: 0 };
        }
        self.wishes += 1;
        Asked { number: self.wishes, by: "test".to_owned(), command, waited_s: 0 }
    }

    pub(super) fn bind(&mut self) {
        self.bind_called("scripted");
    }

    pub(super) fn bind_called(&mut self, name: &str) {
        let (config, role) = (serde_json::json!({}), Role::Active);
        let failure = FailurePolicy::FallBack;
        let plugin = name.to_owned();
        assert_eq!(
            self.command(Command::Bind { plugin, config, role, failure, reason: String::new() }),
            None
        );
    }

    pub(super) fn step(&mut self) {
        self.step_with_loss(2.0);
    }

    /// A step as the trainer makes it: one that is not finite is skipped.
    pub(super) fn step_with_loss(&mut self, loss: f64) {
        self.validate_if_due();
        let held = self.mentor.hold();
        self.take(held);
        let state = self.mentor.state();
        let mut carries = state.carries.clone();
        let counts = quotas(&state.mixture, state.next_sequences(), &mut carries);
        let draws = (0..counts.len()).map(|index| {
            // Ten documents of ten tokens each, in order.
            let drawn = state.domain_tokens[index] + u64::from(counts[index]) * 4;
            let (epoch, rest) = ((drawn / 100) as u32, drawn % 100);
            let to = Cursor { epoch, segment: 0, rank: rest / 10, token_offset: rest % 10 };
            let from = state.cursors[index];
            let to = if counts[index] > 0 { to } else { from };
            DomainDraw { sequences: counts[index], from, to, carry: carries[index] }
        });
        let batch = Batch { sequences: vec![], draws: draws.collect() };
        let sums = |&count: &u32| match count {
            0 => LossSums::default(),
            count => even(loss, u64::from(count) * 4),
        };
        let losses: Vec<LossSums> = counts.iter().map(sums).collect();
        let tokens = losses.iter().map(|sums| sums.tokens).sum::<u64>() as f64;
        let loss = weighted_loss(&losses, &state.loss_weights, tokens);
        let nonfinite_count = u64::from(!loss.is_finite());
        let losses = losses.into_iter().map(LossSums::canonical).collect();
        let pre_step = PreStep { loss, gradient_norm: 1.0, nonfinite_count, losses };
        let asked = self.mentor.gate(&pre_step);
        let verdict = if pre_step.is_finite() { asked } else { asked.and(Verdict::Skip) };
        let report = TrainReport { pre_step, verdict, effective_clip: 1.0, step_us: 5 };
        self.measure_if_due();
        let decided = self.mentor.decide(&batch, &report).unwrap();
        self.take(decided);
    }

    pub(super) fn audit(&self) -> Proofs {
        self.audit_log(&self.log)
    }

    /// An audit of a log, which may be another than this run's.
    pub(super) fn audit_log(&self, log: &[Recorded]) -> Proofs {
        self.audited(DecisionAudit::default(), log)
    }

    pub(super) fn audited(&self, mut audit: DecisionAudit, log: &[Recorded]) -> Proofs {
        let (mut proofs, mut segments) = (Proofs::default(), Vec::new());
        let mut writer_epoch = 1;
        for recorded in log {
            writer_epoch += u64::from(matches!(recorded.event, Event::RunResumed(_)));
            let envelope = Envelope { writer_epoch, ..envelope(recorded) };
            let (divergences, complete) = audit.fold(&envelope, &recorded.event);
            divergences.into_iter().for_each(|divergence| proofs.note(divergence));
            segments.extend(complete);
        }
        let claimed = audit.claimed();
        let (open, unfiled) = audit.finish();
        proofs.add(unfiled);
        segments.extend(open);
        for segment in segments {
            let kept = match segment.start {
                crate::audit::Start::Kept(digest) => self.states.get(&digest).cloned(),
                crate::audit::Start::Init(_) | crate::audit::Start::Goes(_) => None,
            };
            let is_kept = matches!(segment.start, crate::audit::Start::Kept(_));
            if is_kept && kept.is_none() {
                let mut planted = Proofs { not_provable: segment.claims(), ..Proofs::default() };
                planted.note(missing_state());
                proofs.add(planted);
                continue;
            }
            proofs.add(segment.execute(&*self.plugins, kept, Digest::ZERO));
        }
        assert_eq!(proofs.proved + proofs.not_provable + proofs.diverged, claimed, "{proofs:?}");
        proofs
    }
}

/// As an auditor says it who has no such bytes: the program ends there.
pub(super) fn missing_state() -> crate::audit::Divergence {
    crate::audit::Divergence {
        seq: u64::MAX,
        step: None,
        plugin: "log".to_owned(),
        what: "a state that is missing".to_owned(),
        logged: String::new(),
        found: String::new(),
    }
}

/// The envelope of an event of its log's first writer.
pub(super) fn envelope(recorded: &Recorded) -> Envelope {
    let Recorded { seq, attempt, recorded_at, ref event } = *recorded;
    Envelope {
        run_id: crate::id::RunId::SYSTEM,
        seq,
        attempt,
        step: event.step(),
        kind: event.kind(),
        schema_version: 1,
        recorded_at,
        writer_epoch: 1,
    }
}
