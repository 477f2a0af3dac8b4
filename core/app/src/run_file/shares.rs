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
    word.parse().map_err(|_| {
        let meant = number_meant(word).or_else(|| {
            let (name, share) = word.rsplit_once(':')?;
            share.parse::<f64>().is_ok().then(|| format!("write {name}={share}"))
        });
        let meant = meant.map_or(String::new(), |meant| format!(": {meant}"));
        format!("`{word}` is neither a number nor name=number{meant}")
    })
}

/// The number that a person writes in another way, and how it is typed: a percentage, or one with a comma
/// or in quotes.
pub(crate) fn number_meant(text: &str) -> Option<String> {
    let text = text.trim();
    let (text, is_percentage) = match text.strip_suffix('%') {
        Some(text) => (text.trim_end(), true),
        None => (text, false),
    };
    let pointed = match text.split_once(',') {
        // Three digits after a comma may be thousands.
        Some((whole, part)) if part.len() != 3 || whole == "0" => format!("{whole}.{part}"),
        Some(_) => return None,
        None => text.to_owned(),
    };
    let number: f64 = pointed.parse().ok().filter(|number: &f64| number.is_finite())?;
    Some(match (is_percentage, pointed == text) {
        (true, _) => format!("{pointed} % is {}", sum_of_typed(number / 100.0)),
        (false, false) => format!("{pointed} with a point"),
        (false, true) => format!("{pointed} without quotes"),
    })
}

/// How alike a domain's name must be to be the one that is meant.
const ALIKE_MIN: f64 = 0.8;

fn nearest<'a>(typed: &str, domains: &'a [String]) -> Option<&'a String> {
    let alike = |name: &String| strsim::jaro_winkler(&typed.to_lowercase(), &name.to_lowercase());
    let best = domains.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    (alike(best) >= ALIKE_MIN).then_some(best)
}

fn by_name(words: &[String], domains: &[String], in_force: &[f64]) -> Result<Vec<f64>, String> {
    let mut named: Vec<Option<f64>> = vec![None; domains.len()];
    for word in words {
        // A name may hold the sign itself.
        let (name, share) = word.rsplit_once('=').ok_or_else(|| match number(word) {
            Ok(_) => format!("`{word}` has no name: give all shares by name or none"),
            Err(refused) => refused,
        })?;
        let place = domains.iter().position(|domain| domain == name).ok_or_else(|| {
            let meant = nearest(name, domains);
            let meant = meant.map_or(String::new(), |name| format!("; did you mean `{name}`?"));
            format!("`{name}` is no domain of the run; there are {}{meant}", domains.join(", "))
        })?;
        let share: f64 = share.parse().map_err(|_| {
            let meant = number_meant(share).map_or(String::new(), |meant| format!(": {meant}"));
            format!("`{share}` of `{word}` is no number{meant}")
        })?;
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
    fn shares_as_people_write_them_are_told_how_they_are_typed() {
        let refused = |words| typed(words).unwrap_err();
        assert_eq!(refused("web=50%"), "`50%` of `web=50%` is no number: 50 % is 0.5");
        assert_eq!(refused("web=0,5"), "`0,5` of `web=0,5` is no number: 0.5 with a point");
        assert_eq!(refused("web=half"), "`half` of `web=half` is no number");
        let due = "`web:0.5` is neither a number nor name=number: write web=0.5";
        assert_eq!(refused("web:0.5"), due);
        assert_eq!(refused("code=0.5 web:0.5"), due);
        assert_eq!(refused("50% 1 1"), "`50%` is neither a number nor name=number: 50 % is 0.5");
        assert!(refused("wed=0.5").ends_with("there are web, code, a=b; did you mean `web`?"));
        assert!(refused("images=0.5").ends_with("there are web, code, a=b"));
    }

    #[test]
    fn number_is_meant_by_a_percentage_a_comma_or_quotes() {
        for (text, due) in [
            ("35%", Some("35 % is 0.35")),
            (" 7 % ", Some("7 % is 0.07")),
            ("12,5%", Some("12.5 % is 0.125")),
            ("0,5", Some("0.5 with a point")),
            ("0,125", Some("0.125 with a point")),
            ("1,000", None),
            ("1,000,000", None),
            ("0.5", Some("0.5 without quotes")),
            ("nan", None),
            ("%", None),
            ("half", None),
        ] {
            assert_eq!(number_meant(text).as_deref(), due, "{text}");
        }
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
