//! How fast checkpoints are saved and loaded, beside the same bytes written, synced and read with
//! nothing around them, and what a save costs training: in the loop, and by a thread from a copy.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Instant;

use hm_domain::batch::Cursor;
use hm_domain::checkpoint::CheckpointState;
use hm_domain::knobs::Overrides;
use hm_domain::mixture::Mixture;
use hm_domain::spec::RunSpec;
use hm_train::{DeviceChoice, Trainer, preset};

use crate::figures::{child as this_program, figure, figures_of, median, ratios, spread};

const PRESET: &str = "small";
/// Of a step, to say how many steps a save costs.
const SEQUENCES: u32 = 4;
const STEPS: usize = 4;
const ROUNDS: usize = 5;
/// Bytes that the bare side hands over at a time.
const PIECE: usize = 8 << 20;

/// Prints GB/s of both sides and the stall.
pub(crate) fn measure() {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().to_str().expect("a path of text");
        let found = figures_of(&mut this_program(&["checkpoint-times", path]));
        let bytes = found["bytes"].to_string();
        ours.push(found);
        bare.push(figures_of(&mut this_program(&["bare-file", path, &bytes])));
    }
    let bytes = median(&figure(&ours, "bytes"));
    println!(
        "checkpoint of {PRESET}, weights and moments, {:.0} MB, {ROUNDS} rounds in turn:",
        bytes / 1e6
    );
    for (what, other) in [
        ("save", "the same bytes written and synced, bare"),
        ("load", "the same bytes read, bare; both from the page cache"),
    ] {
        let seconds = [&ours, &bare].map(|side| figure(side, &format!("{what}_seconds")));
        let rate = |seconds: &[f64]| -> Vec<f64> {
            seconds.iter().map(|seconds| bytes / seconds / 1e9).collect()
        };
        println!("  {what:50} {} GB/s", spread(&rate(&seconds[0]), 2));
        println!(
            "  {other:50} {} GB/s; ours takes {} times as long",
            spread(&rate(&seconds[1]), 2),
            spread(&ratios(&seconds[0], &seconds[1]), 2)
        );
    }
    let (saves, steps) = (figure(&ours, "save_seconds"), figure(&ours, "step_seconds"));
    let stalls = in_ms(&saves);
    println!(
        "  saved in the loop, training stands still for all of it: {} ms, {} steps of {SEQUENCES} sequences",
        spread(&stalls, 0),
        spread(&ratios(&saves, &steps), 2)
    );
    let figures = |what: &str| figure(&ours, what);
    let (held, lost) = (figures("held_seconds"), figures("lost_seconds"));
    let written = figures("written_seconds");
    println!(
        "  saved by a thread from a copy: the loop is held up for {} ms, {} of that",
        spread(&in_ms(&held), 1),
        spread(&ratios(&held, &saves), 3)
    );
    println!(
        "  in the {} ms until it is on disk all steps together take {} ms longer, {} of that: the thread \
         takes its share of {} cores",
        spread(&in_ms(&written), 0),
        spread(&in_ms(&lost), 0),
        spread(&ratios(&lost, &saves), 2),
        std::thread::available_parallelism().map_or(1, usize::from)
    );
}

fn in_ms(seconds: &[f64]) -> Vec<f64> {
    seconds.iter().map(|seconds| 1e3 * seconds).collect()
}

/// What a save from a copy costs a loop that trains on.
struct Beside {
    /// Until the copy is taken and the thread begun, and what the update that finds it not yet written
    /// takes longer.
    held_seconds: f64,
    /// What all steps until it is on disk take longer.
    lost_seconds: f64,
    written_seconds: f64,
}

/// Trains on while a copy is saved; `usual` is a step's time.
fn beside(trainer: &mut Trainer, spec: &RunSpec, folder: &Path, usual: f64) -> Beside {
    let state = state(trainer.updates());
    let start = Instant::now();
    let copy = trainer.copy().expect("a copy");
    let folder = folder.join("beside");
    let thread = std::thread::spawn(move || copy.save(&folder, &state).expect("it is saved"));
    let mut held_seconds = start.elapsed().as_secs_f64();
    let (mut lost_seconds, mut number) = (held_seconds, 1000);
    while !thread.is_finished() {
        let seconds = crate::train::seconds_of_step(trainer, spec, number);
        lost_seconds += seconds - usual;
        number += 1;
    }
    let written_seconds = start.elapsed().as_secs_f64();
    thread.join().expect("it is saved");
    // A copy whose tensors all wait: as if the disk stood still until after the update.
    let start = Instant::now();
    let waiting = trainer.copy().expect("a copy");
    held_seconds += start.elapsed().as_secs_f64();
    let first = crate::train::seconds_of_step(trainer, spec, number);
    drop(waiting);
    held_seconds += (first - usual).max(0.0);
    Beside { held_seconds, lost_seconds, written_seconds }
}

/// `checkpoint-times FOLDER`: trains, saves and loads; prints seconds of each and the bytes.
pub(crate) fn child(arguments: &[String]) {
    let [folder] = arguments else { panic!("FOLDER") };
    let spec = crate::run_spec::spec(preset(PRESET).expect("a preset"), SEQUENCES);
    let mut trainer = Trainer::new(&spec, &DeviceChoice::Cpu).expect("a trainer");
    let steps = crate::train::train(&mut trainer, &spec, STEPS);
    let (saved, save_seconds) =
        timed(|| trainer.save(folder.as_ref(), &state(trainer.updates())).expect("it is saved"));
    let saved_in = Path::new(folder).join(&saved.folder);
    let Beside { held_seconds, lost_seconds, written_seconds } =
        beside(&mut trainer, &spec, folder.as_ref(), median(&steps));
    let (_, load_seconds) = timed(|| trainer.load(&saved_in, saved.digest).expect("it is loaded"));
    let figures = serde_json::json!({
        "bytes": saved.bytes,
        "save_seconds": save_seconds,
        "load_seconds": load_seconds,
        "held_seconds": held_seconds,
        "lost_seconds": lost_seconds,
        "written_seconds": written_seconds,
        "step_seconds": median(&steps),
    });
    println!("{figures}");
}

/// `bare-file FOLDER BYTES`: writes and syncs one file of so many bytes, reads it; prints seconds.
pub(crate) fn bare_child(arguments: &[String]) {
    let [folder, bytes] = arguments else { panic!("FOLDER BYTES") };
    let (path, bytes) = (Path::new(folder).join("bare"), bytes.parse::<usize>().unwrap());
    // Not zeros, which a file system may leave out.
    let mut piece: Vec<u8> =
        (0..PIECE as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (_, save_seconds) = timed(|| {
        let mut file = std::fs::File::create(&path).expect("a file");
        for start in (0..bytes).step_by(PIECE) {
            file.write_all(&piece[..PIECE.min(bytes - start)]).expect("it is written");
        }
        file.sync_all().expect("it is synced");
    });
    let (read, load_seconds) = timed(|| {
        let mut file = std::fs::File::open(&path).expect("the file");
        let mut read = 0;
        loop {
            match file.read(&mut piece).expect("it is read") {
                0 => return read,
                count => read += count,
            }
        }
    });
    assert_eq!(read, bytes, "all of it is read");
    let figures = serde_json::json!({ "save_seconds": save_seconds, "load_seconds": load_seconds });
    println!("{figures}");
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let value = work();
    (value, start.elapsed().as_secs_f64())
}

/// A run of one domain after so many updates.
pub(crate) fn state(updates: u64) -> CheckpointState {
    CheckpointState {
        attempt: 0,
        next_step: updates,
        updates,
        tokens: 0,
        cursors: vec![Cursor::default()],
        carries: vec![0],
        mixture: Mixture::from_shares(0, &[1.0]).expect("one domain"),
        pending: Vec::new(),
        loss_weights: vec![1.0],
        overrides: Overrides::default(),
        plugin_states: Vec::new(),
    }
}
