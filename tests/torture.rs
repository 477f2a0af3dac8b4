//! Faults at moments that a seed picks. Whatever happens to a run on its way, it ends with the bits of one that
//! nothing happened to, its log proves it, and nothing that was acknowledged is gone.
//!
//! `HM_TORTURE_SEED` repeats a history, `HM_TORTURE_FAULTS` makes it longer; `make torture` does both.

mod faults;

use std::time::Duration;

use self::faults::{Fault, Storm};
use crate::place::Place;

/// Where a worker that dies as it writes is to be met, and where one step follows on another.
const SETS: [&str; 4] = [
    "training.steps=400",
    "checkpoint.every_steps=25",
    "checkpoint.keep=3",
    "validation.every_steps=100",
];

/// Numbers that look like chance and are the same for a seed.
pub(crate) struct Chance(u64);

impl Chance {
    /// Below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn pause(&mut self) {
        std::thread::sleep(Duration::from_millis(self.below(900)));
    }
}

fn number(variable: &str, default: u64) -> u64 {
    let set = std::env::var(variable).ok();
    set.map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{variable}={text}: no number"))
    })
}

/// What a run came to: its last checkpoint, and every step and validation to the bit.
fn outcome(place: &Place, name: &str) -> String {
    let of_run = |what: &str, table: &str| {
        format!("select {what} from {table} join run using (run_id) where run.name = '{name}'")
    };
    let text = "coalesce(md5(string_agg(t::text, ',' order by t)), '')";
    [
        of_run("encode(digest, 'hex')", "checkpoint") + " order by step desc limit 1",
        format!(
            "select {text} from ({}) t",
            of_run("step, loss, gradient_norm, learning_rate, loss_sums, sequences", "step_metric")
        ),
        format!("select {text} from ({}) t", of_run("step, loss_sums", "validation")),
    ]
    .map(|query| place.sql(&query))
    .join(" ")
}

#[test]
fn run_through_faults_ends_with_the_bits_of_an_unbroken_one() {
    let (seed, wanted) = (number("HM_TORTURE_SEED", 1), number("HM_TORTURE_FAULTS", 10));
    let place = Place::with_run_file();
    place.train("calm", &SETS);
    let calm = outcome(&place, "calm");
    let mut chance = Chance(seed);
    let (mut faults, mut histories) = (0, 0);
    while faults < wanted {
        histories += 1;
        let name = format!("storm{histories}");
        let mut storm = Storm::begin(&place, &name, &SETS);
        while faults < wanted && !storm.has_ended() {
            chance.pause();
            // One of each kind before any comes again.
            let kinds = Fault::ALL.len() as u64;
            let next = if faults < kinds { faults } else { chance.below(kinds) };
            storm.strike(Fault::ALL[next as usize], &mut chance);
            faults += 1;
        }
        let story = storm.end();
        let told = format!("seed {seed}, {name}: {story}");
        assert_eq!(outcome(&place, &name), calm, "{told}");
        let report = place.audit(&name, &["--strict"], 0);
        assert_eq!(report["verdict"], "proved", "{told}");
        let state = format!("select state, ending from run where name = '{name}'");
        assert_eq!(place.sql(&state), "ended|completed", "{told}");
    }
    println!("{faults} faults in {histories} histories of seed {seed}");
}
