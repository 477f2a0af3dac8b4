//! Whether two events are one to the bit, and the first field in which they are not. Numbers that are
//! not whole compare by their bits: what is no number agrees with itself, and zero not with minus zero.

use serde_json::Value;

use crate::event::Event;

/// A field in which an event is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Its path: `pre_step.losses[1].tokens`.
    pub(crate) field: String,
    /// What the log says.
    pub(crate) logged: String,
    /// What follows.
    pub(crate) due: String,
}

/// The first field in which `logged` is not `due`.
pub(crate) fn first(logged: &Event, due: &Event) -> Option<Difference> {
    // Plain data: neither form of it can fail.
    let bytes = |event: &Event| postcard::to_allocvec(event).unwrap_or_default();
    if bytes(logged) == bytes(due) {
        return None;
    }
    let value = |event: &Event| serde_json::to_value(event).unwrap_or_default();
    let mut path = String::new();
    let found = apart(&mut path, &value(logged), &value(due));
    // JSON has no word for what is not a number.
    Some(found.unwrap_or_else(|| Difference {
        field: "a number".to_owned(),
        logged: format!("{logged:?}"),
        due: format!("{due:?}"),
    }))
}

/// Where two values part, `path` being theirs.
fn apart(path: &mut String, logged: &Value, due: &Value) -> Option<Difference> {
    let here = |path: &str, logged: String, due: String| {
        Some(Difference { field: path.trim_start_matches('.').to_owned(), logged, due })
    };
    let length = path.len();
    match (logged, due) {
        (Value::Object(ours), Value::Object(theirs)) => {
            if !ours.keys().eq(theirs.keys()) {
                return here(path, logged.to_string(), due.to_string());
            }
            ours.iter().zip(theirs.values()).find_map(|((key, ours), theirs)| {
                path.truncate(length);
                path.push('.');
                path.push_str(key);
                apart(path, ours, theirs)
            })
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() != theirs.len() => {
            path.push_str("[]");
            here(path, format!("{} of them", ours.len()), format!("{} of them", theirs.len()))
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.iter().zip(theirs).enumerate().find_map(|(index, (ours, theirs))| {
                path.truncate(length);
                path.push_str(&format!("[{index}]"));
                apart(path, ours, theirs)
            })
        }
        // As text: minus zero is not zero.
        _ => {
            let (logged, due) = (logged.to_string(), due.to_string());
            if logged == due { None } else { here(path, logged, due) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{LearningRateSet, ValidationRecorded};
    use crate::step::LossSums;

    fn validation(loss_sum: f64) -> Event {
        let losses = vec![LossSums::default(), LossSums { loss_sum, ..LossSums::default() }];
        Event::ValidationRecorded(ValidationRecorded { step: 1, losses })
    }

    #[test]
    fn first_field_that_differs_is_named_by_its_path() {
        let found = first(&validation(1.5), &validation(2.5)).unwrap();
        assert_eq!(found.field, "losses[1].loss_sum");
        assert_eq!((found.logged.as_str(), found.due.as_str()), ("1.5", "2.5"));
        assert_eq!(first(&validation(1.5), &validation(1.5)), None);
    }

    #[test]
    fn numbers_compare_by_their_bits() {
        assert_eq!(first(&validation(f64::NAN), &validation(f64::NAN)), None);
        assert_eq!(first(&validation(-0.0), &validation(0.0)).unwrap().field, "losses[1].loss_sum");
        assert!(first(&validation(f64::NAN), &validation(f64::INFINITY)).is_some());
        let (reason, by) = (String::new(), String::new());
        let other = Event::LearningRateSet(LearningRateSet { step: 1, peak: 1.0, reason, by });
        assert!(first(&validation(1.0), &other).is_some());
    }
}
