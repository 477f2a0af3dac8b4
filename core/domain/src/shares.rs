//! Shares as people type them: parts of 1, by the names of domains. What a run file and a wish have in
//! common. A mixture is made of shares on any scale; that is in `mixture`.

use crate::settings::sum_of_typed;

/// How far typed shares may sum from 1: more than rounding leaves of a few hundred of them, and less
/// than the last digit that anybody types.
const SUM_SLACK: f64 = 1e-9;

/// What a number must be to be a share, if it is none. A percentage is told how it is typed.
pub fn no_share(value: f64) -> Option<&'static str> {
    match value {
        value if (0.0..=1.0).contains(&value) => None,
        value if value > 1.0 && value <= 100.0 => Some("must be a share from 0 to 1: 30 % is 0.3"),
        _ => Some("must be a share from 0 to 1"),
    }
}

/// What shares that sum to `sum` must do instead, if they are too much or, with none left to name,
/// too little.
pub fn no_whole(sum: f64, all_are_named: bool) -> Option<String> {
    let scale = || match sum {
        0.0 => String::new(),
        sum => format!(": divide each by {}", sum_of_typed(sum)),
    };
    if sum > 1.0 + SUM_SLACK {
        Some(format!("must sum to at most 1{}", scale()))
    } else if all_are_named && sum < 1.0 - SUM_SLACK {
        Some(format!("must sum to 1, since every domain is named{}", scale()))
    } else {
        None
    }
}

/// All shares, where some are named: the others keep among them what is left, in the proportions of
/// `kept`. What is named, and the whole, are shares.
pub fn completed(named: &[Option<f64>], kept: &[f64]) -> Vec<f64> {
    let rest = (1.0 - named.iter().flatten().sum::<f64>()).max(0.0);
    let unnamed = || named.iter().zip(kept).filter(|(named, _)| named.is_none());
    let sum: f64 = unnamed().map(|(_, kept)| kept).sum();
    let share = |(named, kept): (&Option<f64>, &f64)| {
        named.unwrap_or(if sum > 0.0 { rest * kept / sum } else { 0.0 })
    };
    named.iter().zip(kept).map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentage_is_told_how_a_share_is_typed() {
        assert_eq!([0.0, 0.3, 1.0].map(no_share), [None; 3]);
        for percentage in [1.5, 30.0, 100.0] {
            assert!(no_share(percentage).unwrap().ends_with("30 % is 0.3"), "{percentage}");
        }
        for other in [-0.1, 1e300, f64::NAN, f64::INFINITY] {
            assert_eq!(no_share(other), Some("must be a share from 0 to 1"), "{other}");
        }
    }

    #[test]
    fn sum_is_held_to_one_within_what_is_typed() {
        for fine in [0.0, 0.8, 1.0, 1.0 + 1e-10] {
            assert_eq!(no_whole(fine, false), None, "{fine}");
        }
        assert_eq!(
            no_whole(0.1 + 0.9 + 0.2, false).unwrap(),
            "must sum to at most 1: divide each by 1.2"
        );
        let all = no_whole(0.5, true).unwrap();
        assert_eq!(all, "must sum to 1, since every domain is named: divide each by 0.5");
        assert_eq!(no_whole(0.0, true).unwrap(), "must sum to 1, since every domain is named");
        assert_eq!(no_whole(1.0 - 1e-10, true), None);
    }

    #[test]
    fn what_is_left_goes_to_the_others_in_their_proportions() {
        assert_eq!(completed(&[Some(0.75), None, None], &[9.0, 3.0, 1.0]), [0.75, 0.1875, 0.0625]);
        assert_eq!(completed(&[Some(1.0), None], &[0.0, 0.0]), [1.0, 0.0]);
    }
}
