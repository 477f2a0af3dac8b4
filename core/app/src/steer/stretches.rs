//! Which stretches of a run are trained again: from one checkpoint of the log to the next.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::str::FromStr;

use hm_domain::event::CheckpointSaved;
use hm_domain::id::Digest;

/// What a person asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The whole run.
    All,
    /// So many, drawn by this seed.
    Random { count: usize, seed: u64 },
    /// Those with a step from the first on and below the second.
    Steps(u64, u64),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Choice, String> {
        let must = || {
            format!(
                "`{text}` is none of all, random:N, random:N:SEED and FROM..TO with FROM below TO"
            )
        };
        if text == "all" {
            return Ok(Choice::All);
        }
        if let Some(random) = text.strip_prefix("random:") {
            let (count, seed) = match random.split_once(':') {
                Some((count, seed)) => (count, seed.parse().map_err(|_| must())?),
                None => (random, RandomState::new().build_hasher().finish()),
            };
            let count = count.parse().ok().filter(|count| *count > 0).ok_or_else(must)?;
            return Ok(Choice::Random { count, seed });
        }
        let (from, to) = text.split_once("..").ok_or_else(must)?;
        match (from.parse(), to.parse()) {
            (Ok(from), Ok(to)) if from < to => Ok(Choice::Steps(from, to)),
            _ => Err(must()),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::All => f.write_str("all"),
            Choice::Random { count, seed } => write!(f, "random:{count}:{seed}"),
            Choice::Steps(from, to) => write!(f, "{from}..{to}"),
        }
    }
}

/// Where one stretch ends and another begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mark {
    /// A checkpoint was begun that is on record.
    Saved(CheckpointSaved),
    /// By the event at `seq` the run went back to a checkpoint, from before `step`.
    Back { seq: u64, step: u64, to: CheckpointSaved },
}

impl Mark {
    /// Seq of its event.
    fn seq(&self) -> u64 {
        match self {
            Mark::Saved(saved) => saved.begun,
            Mark::Back { seq, .. } => *seq,
        }
    }
}

/// A stretch of the log without a checkpoint or a way back inside.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stretch {
    /// Seq of the event that it begins with.
    pub(crate) begins_at: u64,
    /// The checkpoint that it begins with; none at the beginning of the run.
    pub(crate) from: Option<CheckpointSaved>,
    /// Whether the run went back to that.
    pub(crate) is_return: bool,
    /// Seq of the event that it ends with, if it is not the log's end.
    pub(crate) ends_at: Option<u64>,
    /// The checkpoint that was begun there, if one was.
    pub(crate) to: Option<CheckpointSaved>,
    /// Its first step, and the one after its last.
    pub(crate) steps: (u64, u64),
}

/// All stretches of a run with these marks in their order, whose log has steps from the first on and below
/// the second.
pub(crate) fn stretches(marks: &[Mark], (first, end): (u64, u64)) -> Vec<Stretch> {
    let mut all = Vec::new();
    let mut begun = Stretch {
        begins_at: 0,
        from: None,
        is_return: false,
        ends_at: None,
        to: None,
        steps: (first, end),
    };
    for mark in marks {
        let (from, at, to) = match mark {
            Mark::Saved(saved) => (saved, saved.step, Some(saved.clone())),
            Mark::Back { step, to, .. } => (to, *step, None),
        };
        let next = Stretch {
            begins_at: mark.seq(),
            from: Some(from.clone()),
            is_return: matches!(mark, Mark::Back { .. }),
            ends_at: None,
            to: None,
            steps: (from.step, end),
        };
        let ended =
            Stretch { ends_at: Some(mark.seq()), to, ..std::mem::replace(&mut begun, next) };
        all.push(Stretch { steps: (ended.steps.0, at), ..ended });
    }
    all.push(begun);
    // What ends where it begins has nothing to train: a checkpoint at the end of the log.
    all.retain(|stretch| stretch.steps.0 < stretch.steps.1);
    all
}

impl Choice {
    /// Which of these are asked for; of those drawn by chance only such as `can_begin`.
    pub(crate) fn of(
        self,
        stretches: &[Stretch],
        can_begin: &dyn Fn(&Stretch) -> bool,
    ) -> Vec<bool> {
        match self {
            Choice::All => vec![true; stretches.len()],
            Choice::Steps(from, to) => {
                stretches.iter().map(|it| it.steps.0 < to && from < it.steps.1).collect()
            }
            Choice::Random { count, seed } => {
                let mut drawn: Vec<usize> =
                    (0..stretches.len()).filter(|&index| can_begin(&stretches[index])).collect();
                drawn.sort_by_key(|index| Digest::of(format!("{seed} {index}").as_bytes()));
                drawn.truncate(count);
                (0..stretches.len()).map(|index| drawn.contains(&index)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Vec<Stretch> {
        stretches(&[10, 20, 25].map(|step| Mark::Saved(saved(step))), (0, 25))
    }

    fn saved(step: u64) -> CheckpointSaved {
        let folder = format!("{step}");
        CheckpointSaved { step, begun: 2 * step, digest: Digest::ZERO, folder, bytes: 1 }
    }

    #[test]
    fn run_falls_into_stretches_between_its_checkpoints() {
        let places = |stretches: Vec<Stretch>| -> Vec<(u64, (u64, u64))> {
            stretches.iter().map(|it| (it.begins_at, it.steps)).collect()
        };
        assert_eq!(places(run()), [(0, (0, 10)), (20, (10, 20)), (40, (20, 25))]);
        assert_eq!(places(stretches(&[], (3, 7))), [(0, (3, 7))]);
        assert_eq!(stretches(&[], (0, 0)), []);
        // Back from before step 17 to the checkpoint of step 10, and on from there.
        let back = Mark::Back { seq: 44, step: 17, to: saved(10) };
        let found = stretches(&[Mark::Saved(saved(10)), back], (0, 12));
        assert_eq!(found[1].to, None);
        assert!(found[2].is_return && found[2].from == Some(saved(10)));
        assert_eq!(places(found), [(0, (0, 10)), (20, (10, 17)), (44, (10, 12))]);
    }

    #[test]
    fn choice_is_as_typed_and_chance_repeats_by_its_seed() {
        let of = |text: &str| {
            let choice: Choice = text.parse().unwrap();
            choice.of(&run(), &|stretch| stretch.from.is_some())
        };
        assert_eq!(of("all"), [true; 3]);
        assert_eq!(of("9..10"), [true, false, false]);
        assert_eq!(of("9..11"), [true, true, false]);
        assert_eq!(of("20..400"), [false, false, true]);
        assert_eq!(of("random:7:1"), [false, true, true]);
        assert_eq!(of("random:1:1"), of("random:1:1"));
        assert!((0..64).any(|seed| of(&format!("random:1:{seed}")) != of("random:1:1")));
        let again: Choice = "random:2".parse().unwrap();
        assert_eq!(again.to_string().parse(), Ok(again));
        for wrong in ["", "random", "random:0", "random:x", "5..5", "6..5", "..", "5", "random:1:x"]
        {
            assert!(wrong.parse::<Choice>().unwrap_err().contains("FROM..TO"), "{wrong}");
        }
    }
}
