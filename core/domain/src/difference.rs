//! Whether two events are one to the bit, and the first field in which they are not. Numbers that are
//! not whole compare by their bits: what is no number agrees with itself, and zero not with minus zero.

use std::borrow::Cow;

use serde_json::Value;

use crate::event::Event;
use crate::id::Digest;

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
    let mut path = String::new();
    let found = apart(&mut path, &value(logged), &value(due));
    // JSON has no word for what is not a number.
    Some(found.unwrap_or_else(|| Difference {
        field: "a number".to_owned(),
        logged: shown(logged),
        due: shown(due),
    }))
}

/// An event as fields by their names. A run's state in it stands by its length and digest: byte by byte it
/// would be a hundred times as large.
fn value(event: &Event) -> Value {
    let (slim, state) = without_state(event);
    let mut value = serde_json::to_value(slim.as_ref()).unwrap_or_default();
    let field = match event {
        Event::RunStarted(_) => value.pointer_mut("/parent/state"),
        _ => value.pointer_mut("/state"),
    };
    if let (Some(state), Some(field)) = (state, field) {
        *field = state.into();
    }
    value
}

/// An event as a report shows it, the state in it by its length and digest.
pub(crate) fn shown(event: &Event) -> String {
    let (slim, state) = without_state(event);
    match state {
        Some(state) => brief(&format!("with {state}: {slim:?}")),
        None => brief(&format!("{slim:?}")),
    }
}

/// An event with the run's state taken out of it, and that in words.
fn without_state(event: &Event) -> (Cow<'_, Event>, Option<String>) {
    let told = |state: &[u8]| {
        Some(format!("a run state of {} bytes with the digest {}", state.len(), Digest::of(state)))
    };
    if !matches!(event, Event::RunStarted(_) | Event::RolledBack(_)) {
        return (Cow::Borrowed(event), None);
    }
    let mut slim = event.clone();
    let state = match &mut slim {
        Event::RunStarted(started) => started.parent.as_mut().map(|parent| &mut parent.state),
        Event::RolledBack(rolled) => Some(&mut rolled.state),
        _ => None,
    };
    let taken = state.map(std::mem::take);
    (Cow::Owned(slim), taken.and_then(|state| told(&state)))
}

/// A text as a report has it: no longer than people read.
pub(crate) fn brief(text: &str) -> String {
    const CHARACTERS_MAX: usize = 400;
    match text.char_indices().nth(CHARACTERS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => {
            let left = text[end..].chars().count();
            format!("{}, and {left} characters more", &text[..end])
        }
    }
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
    use crate::event::{CheckpointSaved, LearningRateSet, RolledBack, ValidationRecorded};
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

    fn rolled_back(state: Vec<u8>) -> Event {
        let folder = "a000-s0000000000-00".to_owned();
        let checkpoint =
            CheckpointSaved { step: 0, begun: 1, digest: Digest::ZERO, folder, bytes: 1 };
        let (reason, by) = (String::new(), String::new());
        Event::RolledBack(Box::new(RolledBack {
            step: 1,
            to_step: 0,
            attempt: 1,
            seq: 2,
            checkpoint,
            state,
            skipped_data: false,
            reason,
            by,
        }))
    }

    #[test]
    fn state_in_an_event_is_told_by_its_length_and_digest() {
        let (ours, theirs) = (rolled_back(vec![1; 1 << 20]), rolled_back(vec![2; 1 << 20]));
        let found = first(&ours, &theirs).unwrap();
        assert_eq!(found.field, "state");
        let digest = Digest::of(&vec![1; 1 << 20]);
        let due = format!("a run state of 1048576 bytes with the digest {digest}");
        assert_eq!(found.logged, format!("\"{due}\""));
        assert!(shown(&ours).starts_with(&format!("with {due}: RolledBack(")), "{}", shown(&ours));
        assert!(shown(&ours).len() < 600);
        assert_eq!(first(&ours, &ours.clone()), None);
    }

    #[test]
    fn long_event_is_shown_in_part() {
        let (reason, by) = ("x".repeat(10_000), String::new());
        let long = Event::LearningRateSet(LearningRateSet { step: 1, peak: 1.0, reason, by });
        assert!(shown(&long).ends_with(" characters more") && shown(&long).len() < 500);
    }
}
