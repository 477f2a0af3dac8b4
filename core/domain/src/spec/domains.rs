//! The limits of a run file, domain by domain and all together: whether they leave a mixture. Shares and
//! passes alone are checked before the data is known, and with it whether they last for the run.

use serde::{Deserialize, Serialize};

use super::DomainSpec;
use crate::limits::{self, Shortage};
use crate::settings::{Faults, key_of, number, sum_of_typed};
use crate::shares::no_share;

/// Bounds of one domain's share, as a run file has them under the domain's name.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Smallest share.
    pub floor: f64,
    /// Largest share.
    pub cap: f64,
    /// Most passes over the domain in the whole run, if limited.
    pub max_epochs: Option<f64>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { floor: 0.0, cap: 1.0, max_epochs: None }
    }
}

impl Limits {
    /// Bounds that leave a share between them, under the name of their domain.
    pub fn check(&self, domain: &str, faults: &mut Faults) {
        let Limits { floor, cap, max_epochs } = *self;
        let key = |which: &str| format!("{}.{which}", key_of("limits", domain));
        for (which, value) in [("floor", floor), ("cap", cap)] {
            if let Some(must) = no_share(value) {
                faults.add(key(which), value, must);
            }
        }
        if no_share(floor).or(no_share(cap)).is_none() && floor > cap {
            faults.add(key("floor"), floor, format!("must be at most its cap {cap}"));
        }
        let Some(epochs) = max_epochs else { return };
        if !(epochs >= 0.0 && epochs.is_finite()) {
            let must = "must be a number of passes of at least 0; leave it out for no limit";
            faults.add(key("max_epochs"), epochs, must);
        } else if epochs == 0.0 && floor > 0.0 {
            let must = format!("must be above 0 where the floor is {floor}");
            faults.add(key("max_epochs"), epochs, must);
        }
    }
}

/// Limits that hold a mixture for as many tokens as the run draws. `domains` are all of them, those
/// without limits too.
pub fn check_domains(domains: &[DomainSpec], tokens_of_run: u64, faults: &mut Faults) {
    let none = vec![0; domains.len()];
    for shortage in limits::shortages(domains, &none, tokens_of_run, 0.0) {
        let (key, value, must) = match shortage {
            Shortage::Floors { sum } => too_high_floors(domains, sum),
            Shortage::Floor { domain, takes } => {
                hungry_floor(&domains[domain], takes, tokens_of_run)
            }
            Shortage::Whole { gives } => too_little(domains, gives, tokens_of_run),
        };
        faults.add(key, value, must);
    }
}

/// Key, value and what must be otherwise.
type Fault = (String, f64, String);

fn too_high_floors(domains: &[DomainSpec], sum: f64) -> Fault {
    let floors = domains.iter().filter(|domain| domain.floor > 0.0);
    let floors = floors.map(|domain| (limits::key(domain, "floor"), domain.floor)).collect();
    let sum = sum_of_typed(sum);
    first_of(floors, |others| {
        format!("must be lowered{others}: all floors together are {sum}, and shares are 1")
    })
}

fn hungry_floor(domain: &DomainSpec, takes: f64, tokens: u64) -> Fault {
    let (floor, max_epochs) = (domain.floor, domain.max_epochs.unwrap_or_default());
    let (key, size) = (limits::key(domain, "floor"), domain.tokens());
    // Rounded up, so that what is told is enough.
    let least = (takes / size.max(1) as f64 * 1000.0).ceil() / 1000.0;
    let must = format!(
        "must be at least {}, or the floor lower: {key} {floor} takes {takes:.0} of the {tokens} tokens \
         that the run draws, and a pass over the domain gives {size}",
        number(least)
    );
    (limits::key(domain, "max_epochs"), max_epochs, must)
}

fn too_little(domains: &[DomainSpec], gives: f64, tokens: u64) -> Fault {
    let binding = limits::binding(domains, &vec![0; domains.len()], tokens);
    if binding.iter().all(|(key, _)| key.ends_with(".cap")) {
        let part = sum_of_typed(gives / tokens.max(1) as f64);
        return first_of(binding, |others| {
            format!("must be raised{others}: all caps together are {part}, and shares are 1")
        });
    }
    first_of(binding, |others| {
        format!(
            "must be raised{others}, or training.steps lowered: within these limits the domains give \
             {gives:.0} of the {tokens} tokens that the run draws"
        )
    })
}

/// The first of several limits that only together are at fault, the others told in its sentence.
fn first_of(limits: Vec<(String, f64)>, must: impl Fn(&str) -> String) -> Fault {
    /// As many as one sentence carries.
    const OTHERS_MAX: usize = 10;
    let mut limits = limits.into_iter();
    let (key, value) = limits.next().expect("what is at fault was typed");
    let others: Vec<String> =
        limits.map(|(key, value)| format!("{key} {}", number(value))).collect();
    let more = match others.len().saturating_sub(OTHERS_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let others = match &others[..others.len().min(OTHERS_MAX)] {
        [] => String::new(),
        others => format!(", or {}{more}", others.join(", ")),
    };
    (key, value, must(&others))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::spec;

    /// What is wrong.
    fn told(check: impl FnOnce(&mut Faults)) -> Vec<String> {
        let mut faults = Faults::default();
        check(&mut faults);
        faults.all().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn limits_that_leave_no_share_are_refused_under_the_name_of_their_domain() {
        let free = Limits::default();
        for (bad, domain, due) in [
            (Limits { floor: -0.1, ..free }, "web", "limits.web.floor is -0.1"),
            (Limits { floor: 30.0, ..free }, "web", "limits.web.floor is 30"),
            (Limits { floor: f64::NAN, ..free }, "web", "limits.web.floor is NaN"),
            (Limits { cap: 1.5, ..free }, "a b", "limits.\"a b\".cap is 1.5"),
            (Limits { cap: -1.0, ..free }, "web", "limits.web.cap is -1"),
            (Limits { floor: 0.9, cap: 0.1, ..free }, "web", "limits.web.floor is 0.9"),
            (Limits { max_epochs: Some(-3.0), ..free }, "web", "limits.web.max_epochs is -3"),
            (
                Limits { floor: 0.1, max_epochs: Some(0.0), ..free },
                "web",
                "limits.web.max_epochs is 0",
            ),
        ] {
            let found = told(|faults| bad.check(domain, faults));
            assert!(found.len() == 1 && found[0].starts_with(due), "{found:?}");
        }
        let percentage = told(|faults| Limits { cap: 30.0, ..free }.check("web", faults));
        assert!(percentage[0].ends_with("30 % is 0.3"), "{percentage:?}");
    }

    fn found(domains: &[DomainSpec], tokens: u64) -> Vec<String> {
        told(|faults| check_domains(domains, tokens, faults))
    }

    #[test]
    fn limits_of_all_domains_together_must_hold_a_whole_mixture() {
        let mut domains = spec(2).domains;
        domains.iter_mut().for_each(|domain| domain.floor = 0.7);
        assert_eq!(
            found(&domains, 100),
            [
                "limits.domain-0.floor is 0.7: must be lowered, or limits.domain-1.floor 0.7: all floors \
              together are 1.4, and shares are 1"
            ]
        );
        for domain in &mut domains {
            (domain.floor, domain.cap) = (0.0, 0.3);
        }
        assert_eq!(
            found(&domains, 100),
            [
                "limits.domain-0.cap is 0.3: must be raised, or limits.domain-1.cap 0.3: all caps together \
              are 0.6, and shares are 1"
            ]
        );
        // Two domains of 100 tokens, three and four times: 700 tokens and no more.
        for (domain, epochs) in domains.iter_mut().zip([3.0, 4.0]) {
            (domain.cap, domain.max_epochs) = (1.0, Some(epochs));
        }
        assert!(found(&domains, 700).is_empty());
        assert_eq!(
            found(&domains, 701),
            [
                "limits.domain-0.max_epochs is 3: must be raised, or limits.domain-1.max_epochs 4, or \
              training.steps lowered: within these limits the domains give 700 of the 701 tokens that the \
              run draws"
            ]
        );
        domains[1].max_epochs = None;
        assert!(found(&domains, 701).is_empty());
    }

    /// Caps that sum to more than 1 and epochs that would last alone do not hold a mixture together.
    #[test]
    fn a_cap_and_the_epochs_of_others_are_held_against_the_run_together() {
        let mut domains = spec(3).domains;
        (domains[0].floor, domains[0].cap) = (0.1, 0.5);
        (domains[1].floor, domains[1].cap, domains[1].max_epochs) = (0.2, 0.6, Some(1.5));
        (domains[2].cap, domains[2].max_epochs) = (0.3, Some(2.0));
        // Half of 750, 150 and 200: 25 too little. Of 700 it is 350, 150 and 200.
        assert_eq!(
            found(&domains, 750),
            ["limits.domain-0.cap is 0.5: must be raised, or limits.domain-1.max_epochs 1.5, \
              limits.domain-2.max_epochs 2, or training.steps lowered: within these limits the domains \
              give 725 of the 750 tokens that the run draws"]
        );
        assert!(found(&domains, 700).is_empty());
    }

    #[test]
    fn floor_that_its_own_passes_cannot_feed_is_refused_by_what_would_do() {
        let mut domains = spec(2).domains;
        // A fifth of 2000 tokens, of a domain of 100.
        (domains[0].floor, domains[0].max_epochs) = (0.2, Some(1e-9));
        assert_eq!(
            found(&domains, 2000),
            ["limits.domain-0.max_epochs is 1e-9: must be at least 4, or the floor lower: \
              limits.domain-0.floor 0.2 takes 400 of the 2000 tokens that the run draws, and a pass over \
              the domain gives 100"]
        );
        domains[0].max_epochs = Some(4.0);
        assert!(found(&domains, 2000).is_empty());
    }
}
