//! A mixture as a person types it: numbers in the order of the run's domains, or `name=share`.

use hm_domain::settings::sum_of_typed;
use hm_domain::shares::{completed, no_share, no_whole};

/// Shares for `domains` out of `words`. Numbers are on any scale. Shares by name are as in a run file:
/// parts of 1, and the domains that are not named keep among them what is left, in the proportions of
/// `in_force`.
pub(crate) fn shares(
    words: &[String],
    domains: &[String],
    in_force: &[f64],
) -> Result<Vec<f64>, String> {
    if words.iter().any(|word| word.contains('=')) {
        return by_name(words, domains, in_force);
    }
    words.iter().map(|word| number(word)).collect()
}

fn number(word: &str) -> Result<f64, String> {
    word.parse().map_err(|_| format!("`{word}` is neither a number nor name=number"))
}

fn by_name(words: &[String], domains: &[String], in_force: &[f64]) -> Result<Vec<f64>, String> {
    let mut named: Vec<Option<f64>> = vec![None; domains.len()];
    for word in words {
        // A name may hold the sign itself.
        let (name, share) = word
            .rsplit_once('=')
            .ok_or_else(|| format!("`{word}` has no name: give all shares by name or none"))?;
        let place = domains.iter().position(|domain| domain == name).ok_or_else(|| {
            format!("`{name}` is no domain of the run; there are {}", domains.join(", "))
        })?;
        let share = number(share)?;
        if let Some(must) = no_share(share) {
            return Err(format!("{word}: it {must}"));
        }
        if named[place].replace(share).is_some() {
            return Err(format!("`{name}` is named twice"));
        }
    }
    let sum: f64 = named.iter().flatten().sum();
    let is_kept = |(named, kept): (&Option<f64>, &f64)| named.is_none() && *kept > 0.0;
    let none_is_kept = !named.iter().zip(in_force).any(is_kept);
    if let Some(must) = no_whole(sum, none_is_kept) {
        let must = match none_is_kept && named.contains(&None) {
            true => "must sum to 1, since the others have none now".to_owned(),
            false => must,
        };
        return Err(format!("the named shares sum to {} and {must}", sum_of_typed(sum)));
    }
    Ok(completed(&named, in_force))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(words: &str) -> Result<Vec<f64>, String> {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let domains = ["web", "code", "a=b"].map(str::to_owned);
        shares(&words, &domains, &[0.5, 0.3, 0.2])
    }

    #[test]
    fn shares_go_by_place_or_by_name() {
        assert_eq!(typed("2 1 1").unwrap(), [2.0, 1.0, 1.0]);
        assert_eq!(typed("web=0.5 code=0.25 a=b=0.25").unwrap(), [0.5, 0.25, 0.25]);
        // What is left is shared as before: 3 to 2.
        let some = typed("web=0.75").unwrap();
        assert!((some[1] - 0.15).abs() < 1e-12 && (some[2] - 0.1).abs() < 1e-12, "{some:?}");
        assert_eq!(typed("web=1").unwrap(), [1.0, 0.0, 0.0]);
    }

    #[test]
    fn shares_that_mean_nothing_are_refused_by_name() {
        let refused = |words| typed(words).unwrap_err();
        assert_eq!(refused("2 some"), "`some` is neither a number nor name=number");
        assert_eq!(refused("web=0.5 0.5"), "`0.5` has no name: give all shares by name or none");
        assert!(refused("wed=0.5").contains("`wed` is no domain of the run; there are web, code"));
        assert!(refused("web=0.5 web=0.2").contains("named twice"));
        assert_eq!(refused("web=50"), "web=50: it must be a share from 0 to 1: 30 % is 0.3");
        assert!(refused("web=nan").contains("from 0 to 1"));
        let due = "the named shares sum to 1.2 and must sum to at most 1: divide each by 1.2";
        assert_eq!(refused("web=0.9 code=0.3"), due);
        assert!(refused("web=0.5 code=0.25 a=b=0.125").contains("sum to 0.875"));
        let none_left =
            shares(&["web=0.5".to_owned()], &["web".into(), "code".into()], &[1.0, 0.0]);
        assert!(none_left.unwrap_err().contains("the others have none now"));
    }
}
