//! Weights are measured when a plugin is to see them, and at no other step.

use super::*;
use crate::parameter_kind::kinds;

/// A finding for each step shown, with the weight columns among what was shown of it.
pub(super) fn told(observations: &Observations) -> Vec<Finding> {
    let told = |seen: &Observation| {
        let column = |column: &Column| format!("{} {:?}", column.name, column.values);
        let columns = seen.columns.iter().filter(|column| column.name.starts_with("weight"));
        Finding {
            kind: format!("step {}", seen.step),
            severity: Severity::Info,
            score: 0.0,
            threshold: 0.0,
            domains: vec![],
            evidence: columns.map(column).collect::<Vec<_>>().join(", "),
            recommendation: Recommendation::Alert,
        }
    };
    observations.entries.iter().map(told).collect()
}

impl Run {
    /// As the run loop does: every layer's squares sum to the step's number, over four elements.
    pub(super) fn measure_if_due(&mut self) {
        if self.mentor.weights_due() {
            let event = Event::WeightsMeasured(self.measured());
            self.take(Decided { events: vec![event], states: vec![] });
        }
    }

    fn measured(&self) -> WeightsMeasured {
        let state = self.mentor.state();
        let kind = |(name, layers)| {
            let mut kind = KindState::new(name);
            (0..layers).for_each(|_| kind.push(state.next_step as f64, 4));
            kind
        };
        WeightsMeasured {
            step: state.next_step,
            kinds: kinds(&state.spec.model).map(kind).collect(),
        }
    }

    /// Binds a detector that watches every other step and gates every one.
    pub(super) fn bind_detector(&mut self, columns: &[&str], (role, watches): (Role, bool)) {
        let candidate = Candidate {
            plugin: Digest::of(b"watching"),
            world: World::Detector,
            interface: "0.1.0".to_owned(),
            description: Description {
                name: "watching".to_owned(),
                version: "1.0.0".to_owned(),
                documentation: String::new(),
                config_schema: "{}".to_owned(),
                columns: columns.iter().map(|&name| name.to_owned()).collect(),
                every_steps: 2,
                gates: true,
                watches,
                wants_timings: false,
            },
            engine: Digest::ZERO,
            limits: Limits::default(),
        };
        let command = Command::Bind {
            plugin: "watching".to_owned(),
            config: serde_json::json!({}),
            role,
            failure: FailurePolicy::HoldLast,
            reason: String::new(),
        };
        self.plugins.knows(&candidate);
        let asked = self.asked(command);
        let decided = self.mentor.answer(&asked, Ok(candidate));
        self.take(decided);
    }

    /// Steps that were measured, each checked to stand right before its own event.
    fn measured_steps(&self) -> Vec<u64> {
        let mut steps = Vec::new();
        for pair in self.log.windows(2) {
            let Event::WeightsMeasured(measured) = &pair[0].event else { continue };
            let Event::StepRecorded(step) = &pair[1].event else { panic!("{:?}", pair[1]) };
            assert_eq!(measured.step, step.step);
            steps.push(step.step);
        }
        steps
    }

    /// Steps that were measured, once for every time.
    fn measurements(&self) -> Vec<u64> {
        let step = |recorded: &Recorded| match &recorded.event {
            Event::WeightsMeasured(measured) => Some(measured.step),
            _ => None,
        };
        self.log.iter().filter_map(step).collect()
    }

    /// Another worker takes the run up from its beginning.
    fn come_back_from_the_start(&mut self) {
        let Event::RunStarted(started) = &self.log[0].event else { panic!("no start") };
        let step = self.mentor.state().next_step;
        self.event(Event::RunResumed(RunResumed {
            step,
            checkpoint: None,
            checkpoint_step: 0,
            folded_from: 0,
            caught_up_steps: step,
            agreed: true,
            difference_max: 0.0,
            passed_over: Vec::new(),
            environment: started.environment.clone(),
        }));
    }

    fn last_findings(&self) -> Vec<(String, String)> {
        let Event::StepRecorded(step) = &self.log.last().unwrap().event else { panic!("no step") };
        let findings = step.receipts.iter().filter_map(|receipt| match &receipt.output {
            Output::Findings(findings) => Some(findings.clone()),
            _ => None,
        });
        findings.flatten().map(|finding| (finding.kind, finding.evidence)).collect()
    }
}

#[test]
fn measured_at_the_steps_a_plugin_sees_and_shown_with_the_columns_it_asked_for() {
    let mut run = Run::start();
    run.bind_detector(
        &["loss_sum", "weight_std.q_proj", "weight_std.q_norm"],
        (Role::Active, true),
    );
    (0..4).for_each(|_| run.step());
    assert_eq!(run.measured_steps(), [1, 3]);
    // Of the model's one layer, the root of 3 / 4; a kind that the model lacks is not shown.
    let seen = format!("weight_std.q_proj [Some({})]", 0.75f64.sqrt());
    let due = [("step 2".to_owned(), String::new()), ("step 3".to_owned(), seen)];
    assert_eq!(run.last_findings(), due);
    assert_eq!(run.audit().diverged, 0);
}

#[test]
fn shadow_counts_and_whoever_does_not_watch_or_does_not_ask_counts_not() {
    let asks = ["weight_norm.norm"];
    for (columns, role, watches, due) in [
        (&asks[..], Role::Shadow, true, vec![1, 3]),
        (&asks[..], Role::Active, false, vec![]),
        (&["loss_sum"][..], Role::Active, true, vec![]),
    ] {
        let mut run = Run::start();
        run.bind_detector(columns, (role, watches));
        (0..4).for_each(|_| run.step());
        assert_eq!(run.measured_steps(), due, "{columns:?} {role:?} {watches}");
        assert_eq!(run.audit().diverged, 0);
    }
}

#[test]
fn quarantined_plugin_is_measured_for_no_more() {
    let mut run = Run::start();
    run.bind_detector(&["weight_std.lm_head"], (Role::Active, true));
    run.plugins.faulty.store(1, Ordering::Relaxed);
    (0..20).for_each(|_| run.step());
    let after = run.log.iter().position(|r| matches!(r.event, Event::BindingQuarantined(_)));
    let calm = &run.log[after.expect("it is quarantined")..];
    assert!(calm.len() > 4 && !calm.iter().any(|r| matches!(r.event, Event::WeightsMeasured(_))));
}

/// A worker that dies between the two events: what the step will be may change before it is trained again.
#[test]
fn measured_before_a_crash_is_measured_again() {
    let mut run = Run::start();
    run.bind_detector(&["weight_std.q_proj"], (Role::Active, true));
    run.step();
    run.measure_if_due();
    assert!(!run.mentor.weights_due());
    run.come_back_from_the_start();
    assert!(run.mentor.weights_due());
    assert_eq!(run.command(set_batch(4)), None);
    run.step();
    assert_eq!(run.measurements(), [1, 1]);
    assert_eq!(run.audit().first, None);
    let mut folded = RunState::start(&run.log[0].event).unwrap();
    run.log[1..].iter().for_each(|recorded| folded.apply(&recorded.event));
    assert_eq!(&folded, run.mentor.state());
}

/// Whatever comes between may change the step: a wish, or a plugin with its gate.
#[test]
fn measured_and_then_something_else_is_measured_again() {
    let between: [fn(&mut Run); 4] = [
        |run| assert_eq!(run.command(set_batch(4)), None),
        |run| {
            let wish = Command::SetMixture { shares: vec![3.0, 1.0], reason: String::new() };
            assert_eq!(run.command(wish), None);
        },
        |run| run.bind_detector(&["weight_std.q_proj"], (Role::Shadow, true)),
        |run| run.come_back_from_the_start(),
    ];
    for between in between {
        let mut run = Run::start();
        run.bind_detector(&["weight_std.q_proj"], (Role::Active, true));
        run.step();
        run.measure_if_due();
        between(&mut run);
        run.step();
        assert_eq!((run.measurements(), run.audit().first), (vec![1, 1], None));
        // The first one alone is not enough.
        let second = run.log.iter().rposition(|it| matches!(it.event, Event::WeightsMeasured(_)));
        run.log.remove(second.unwrap());
        run.log.iter_mut().zip(0..).for_each(|(recorded, seq)| recorded.seq = seq);
        let first = run.audit().first.unwrap();
        assert_eq!(first.found, "measured weights, which a plugin is to see");
    }
}

#[test]
fn nothing_is_measured_twice_in_a_row() {
    let mut run = Run::start();
    run.bind_detector(&["weight_std.q_proj"], (Role::Active, true));
    run.step();
    let measured = Event::WeightsMeasured(run.measured());
    run.measure_if_due();
    run.take(Decided { events: vec![measured], states: vec![] });
    run.step();
    assert_eq!(run.audit().first.unwrap().what, "what may come here");
}

#[test]
fn audit_names_what_is_measured_without_need_and_what_is_lacking() {
    let mut run = Run::start();
    run.bind_detector(&["weight_std.q_proj"], (Role::Active, true));
    let needless = Event::WeightsMeasured(run.measured());
    run.take(Decided { events: vec![needless], states: vec![] });
    run.step();
    let first = run.audit().first.unwrap();
    assert_eq!(
        (first.what.as_str(), first.found.as_str()),
        ("what may come here", "no measured weights, since no plugin is to see them")
    );

    let mut run = Run::start();
    run.bind_detector(&["weight_std.q_proj"], (Role::Active, true));
    run.step();
    run.measure_if_due();
    let at = run.log.len() - 1;
    let Event::WeightsMeasured(measured) = &mut run.log[at].event else { panic!("not measured") };
    measured.kinds[0].norm.pop();
    assert_eq!(run.audit().first.unwrap().what, "kinds[0].norm[]");
    run.log.remove(at);
    run.step();
    run.log.iter_mut().zip(0..).for_each(|(recorded, seq)| recorded.seq = seq);
    let first = run.audit().first.unwrap();
    assert_eq!(first.found, "measured weights, which a plugin is to see");
}
