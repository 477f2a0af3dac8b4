use super::*;

fn recorded(seq: u64, event: Event) -> Recorded {
    Recorded { seq, attempt: 0, recorded_at: 0, event }
}

fn set(seq: u64, shares: &[f64]) -> Recorded {
    let mixture = Mixture::from_shares(seq, shares).unwrap();
    let rules = vec!["cap".to_owned()];
    recorded(
        seq,
        Event::MixtureSet(MixtureSet {
            step: seq,
            mixture,
            rules,
            reason: String::new(),
            by: "ada".to_owned(),
        }),
    )
}

fn names() -> Names {
    let bindings = BTreeMap::from([(BindingId(0), "odm".to_owned())]);
    Names { domains: vec!["web".to_owned(), "code".to_owned()], bindings }
}

#[test]
fn mixture_set_by_hand_shows_shares_what_moved_and_the_rules() {
    let entries = entries(&[set(1, &[0.5, 0.5]), set(2, &[0.4, 0.6])], &names());
    assert_eq!(entries[0].detail, "web 50.0 %, code 50.0 %; a cap holds a share down");
    assert_eq!(entries[1].title, "ada set the mixture");
    assert_eq!(
        entries[1].detail,
        "web 40.0 % (-10.0), code 60.0 % (+10.0); a cap holds a share down"
    );
}

#[test]
fn series_of_one_policy_is_one_entry_until_something_else_happens() {
    let names = names();
    let mut timeline = Timeline { names: &names, entries: Vec::new(), series: None, shares: None };
    let decide = |timeline: &mut Timeline<'_>, step: u64, share: f64| {
        let mixture = Mixture::from_shares(step, &[share, 1.0 - share]).unwrap();
        timeline.decided((step, Some(step)), BindingId(0), &mixture, (&[], "because"));
    };
    timeline.shares = Some(vec![0.5, 0.5]);
    decide(&mut timeline, 7, 0.6);
    decide(&mut timeline, 8, 0.7);
    timeline.fold(&recorded(9, Event::RunPaused(RunPaused { step: 9 })));
    decide(&mut timeline, 10, 0.8);
    let titles: Vec<&str> = timeline.entries.iter().map(|entry| entry.title.as_str()).collect();
    let expected =
        ["odm moved the mixture 2 times since step 7", "run paused", "odm moved the mixture"];
    assert_eq!(titles, expected);
    let first = &timeline.entries[0];
    assert_eq!(
        (first.seq, first.detail.as_str()),
        (8, "web 70.0 % (+20.0), code 30.0 % (-20.0). because")
    );
}

#[test]
fn knobs_turned_by_hand_show_value_step_and_reason() {
    let by = || "ada".to_owned();
    let reason = "spikes".to_owned();
    let rate = LearningRateSet { step: 7, peak: 5e-4, reason, by: by() };
    let batch = BatchSizeSet { step: 9, sequences: 64, reason: String::new(), by: by() };
    let events =
        [recorded(1, Event::LearningRateSet(rate)), recorded(2, Event::BatchSizeSet(batch))];
    let shown = entries(&events, &names());
    assert_eq!(shown[0].title, "ada set the peak learning rate to 0.0005");
    assert_eq!(shown[0].detail, "from step 7 on: spikes");
    assert_eq!(shown[1].title, "ada set the batch to 64 sequences");
    assert_eq!((shown[1].step, shown[1].detail.as_str()), (Some(9), "from step 9 on"));
}
