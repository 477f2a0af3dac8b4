use proptest::prelude::*;

use super::*;
use crate::testing::spec;

fn rule_with(spec: &RunSpec, shares: &[f64], served: &[u64]) -> Ruled {
    let previous = Mixture::from_shares(4, &vec![1.0; spec.domains.len()]).unwrap();
    let situation = Situation {
        spec,
        previous: Some(&previous),
        domain_tokens: served,
        tokens_left: 1000,
        rate_limited: true,
    };
    rule(shares, situation).unwrap()
}

#[test]
fn harmless_proposal_is_applied_as_it_is() {
    let ruled = rule_with(&spec(4), &[0.3, 0.2, 0.25, 0.25], &[0; 4]);
    assert_eq!(ruled.mixture, Mixture::from_shares(5, &[0.3, 0.2, 0.25, 0.25]).unwrap());
    assert!(ruled.rules.is_empty());
}

#[test]
fn rate_limit_keeps_the_direction() {
    let mut spec = spec(2);
    spec.rules.rate_limit = Some(0.2);
    // From (1/2, 1/2) towards (1, 0): a distance of 1 becomes 0.2.
    let ruled = rule_with(&spec, &[1.0, 0.0], &[0; 2]);
    assert_eq!(ruled.rules, ["rate-limit"]);
    assert!((ruled.mixture.share(0) - 0.6).abs() < 1e-9);
}

#[test]
fn floor_and_epoch_cap_are_named() {
    let mut spec = spec(3);
    spec.domains[0].floor = 0.1;
    spec.domains[1].max_epochs = Some(2.0);
    // Domain 1 has 100 tokens, 2 epochs, 50 served: 150 left of the 1000 to come.
    let ruled = rule_with(&spec, &[0.0, 0.8, 0.2], &[0, 50, 0]);
    assert_eq!(ruled.rules, ["floor", "epoch-cap"]);
    for (index, share) in [0.1, 0.15, 0.75].into_iter().enumerate() {
        assert!((ruled.mixture.share(index) - share).abs() < 1e-9, "{:?}", ruled.mixture);
    }
}

#[test]
fn caps_that_leave_no_room_give_way_in_their_proportions() {
    let mut spec = spec(2);
    spec.domains[0].cap = 0.2;
    spec.domains[1].cap = 0.3;
    let ruled = rule_with(&spec, &[0.5, 0.5], &[0; 2]);
    assert_eq!(ruled.rules[0], CAP_RELAXED);
    assert!((ruled.mixture.share(0) - 0.4).abs() < 1e-9);
}

#[test]
fn epoch_caps_give_way_before_a_cap_does() {
    let mut spec = spec(3);
    spec.domains[0].cap = 0.5;
    (spec.domains[1].cap, spec.domains[1].max_epochs) = (0.6, Some(1.5));
    (spec.domains[2].cap, spec.domains[2].max_epochs) = (0.3, Some(2.0));
    // Of the 1000 tokens to come they may give 500, 150 and 200: 300 more are drawn of the last two,
    // of each by its epochs, and the last reaches its cap of 300 no sooner.
    let ruled = rule_with(&spec, &[0.5, 0.2, 0.3], &[0; 3]);
    assert_eq!(ruled.rules, [EPOCH_CAP_RELAXED, CAP, EPOCH_CAP]);
    for (index, share) in [0.5, 1.5 / 7.0, 2.0 / 7.0].into_iter().enumerate() {
        assert!((ruled.mixture.share(index) - share).abs() < 1e-9, "{:?}", ruled.mixture);
    }
    // Nothing is left of them, and the first stays at its cap.
    let ruled = rule_with(&spec, &[0.5, 0.2, 0.3], &[0, 150, 200]);
    for (index, share) in [0.5, 1.0 / 3.0, 0.5 / 3.0].into_iter().enumerate() {
        assert!((ruled.mixture.share(index) - share).abs() < 1e-9, "{:?}", ruled.mixture);
    }
}

#[test]
fn floor_that_its_domain_can_no_longer_feed_is_named() {
    let mut spec = spec(2);
    (spec.domains[0].floor, spec.domains[0].max_epochs) = (0.2, Some(1.0));
    let ruled = rule_with(&spec, &[0.5, 0.5], &[50, 0]);
    assert_eq!(ruled.rules, [FLOOR_RELAXED, EPOCH_CAP]);
    assert!((ruled.mixture.share(0) - 0.05).abs() < 1e-9);
    // Short of it by what whole sequences leave.
    spec.domains[0].max_epochs = Some(2.0);
    let ruled = rule_with(&spec, &[0.5, 0.5], &[4, 0]);
    assert_eq!(ruled.rules, [EPOCH_CAP]);
}

#[test]
fn every_rule_is_told_in_words() {
    for rule in [RATE_LIMIT, FLOOR, CAP, EPOCH_CAP, FLOOR_RELAXED, CAP_RELAXED, EPOCH_CAP_RELAXED] {
        assert!(in_words(rule).contains(' '), "{rule}");
    }
}

proptest! {
    #[test]
    fn result_is_a_mixture_within_bounds(
        raw in prop::collection::vec(0.0f64..1.0, 6),
        floors in prop::collection::vec(0.0f64..0.15, 6),
        caps in prop::collection::vec(0.2f64..1.0, 6),
    ) {
        prop_assume!(raw.iter().sum::<f64>() > 0.0);
        let mut spec = spec(6);
        for (domain, (&floor, &cap)) in spec.domains.iter_mut().zip(floors.iter().zip(&caps)) {
            (domain.floor, domain.cap) = (floor, cap);
        }
        let ruled = rule_with(&spec, &raw, &[0; 6]);
        prop_assert_eq!(ruled.mixture.weights.iter().sum::<u64>(), crate::mixture::WEIGHT_TOTAL);
        for index in 0..6 {
            let share = ruled.mixture.share(index);
            prop_assert!(share >= floors[index] - 1e-6 && share <= caps[index] + 1e-6);
        }
    }

    /// No epoch cap moves a share above a hard cap, while those sum to 1.
    #[test]
    fn hard_caps_hold_whatever_is_left_of_the_domains(
        raw in prop::collection::vec(0.01f64..1.0, 4),
        caps in prop::collection::vec(0.25f64..1.0, 4),
        epochs in prop::collection::vec(prop::option::of(0.0f64..4.0), 4),
        served in prop::collection::vec(0u64..300, 4),
    ) {
        let mut spec = spec(4);
        for (index, domain) in spec.domains.iter_mut().enumerate() {
            (domain.cap, domain.max_epochs) = (caps[index], epochs[index]);
        }
        let ruled = rule_with(&spec, &raw, &served);
        let domains = spec.domains.iter().zip(&served);
        let most: Vec<f64> =
            domains.map(|(domain, &served)| domain.cap.min(domain.gives(served) / 1000.0)).collect();
        let room = most.iter().sum::<f64>();
        let holds = room >= 1.0;
        let slack = whole_sequences(&spec) / 1000.0;
        prop_assert!(!holds || !limits_give_way(&ruled.rules));
        prop_assert!(room + slack + 1e-9 >= 1.0 || limits_give_way(&ruled.rules));
        for index in 0..4 {
            let cap = if holds { most[index] } else { caps[index] };
            prop_assert!(ruled.mixture.share(index) <= cap + 1e-6, "{:?}", ruled);
        }
    }
}
