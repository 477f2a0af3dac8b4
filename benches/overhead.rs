//! What log, plugins and an open page cost a run: `hm train` with all of them against the same trainer
//! and sampler with nothing around them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use hm_data::{Manifest, Sampler};
use hm_domain::mixture::Mixture;
use hm_domain::schedule::StepSpan;
use hm_domain::spec::RunSpec;
use hm_domain::step::{Knobs, Verdict};
use hm_train::{DeviceChoice, Trainer};

use crate::figures::{child as this_program, figures_of, spread};
use crate::place::Place;

const STEPS: u64 = 120;
/// Steps that are not counted: allocation, thread pools, the compiler of the plugins.
const WARM_UP: u64 = 20;
const ROUNDS: usize = 4;

/// Prints the mean step of both sides and what share of a run's time all around the trainer takes.
pub(crate) fn measure() {
    let place = Place::with_run_file();
    let settings = [
        "model={\"preset\":\"tiny\",\"sequence_length\":64}",
        &format!("training.steps={STEPS}"),
        "validation.every_steps=100000",
        "checkpoint.every_steps=100000",
    ];
    let (_server, address) = place.serve();
    let mut sides = [const { Vec::new() }; 2];
    let mut outside = Vec::new();
    for round in 0..ROUNDS {
        let name = format!("round-{round}");
        let worker = place.train_in_background(&name, &settings);
        place.wait_for_step(&name, 1);
        let watcher =
            watch(&address, &place.sql(&format!("select run_id from run where name = '{name}'")));
        let (code, errors) = worker.end();
        assert_eq!(code, Some(0), "{errors}");
        watcher.join().expect("the page's stream ends with the run");
        let counted = format!(
            "from step_metric join run using (run_id) where name = '{name}' and step >= {WARM_UP}"
        );
        let number = |query: String| -> f64 { place.sql(&query).parse().expect("a number") };
        let step_us = number(format!(
            "select (max(m) - min(m))::float8 / (count(*) - 1) from (select step_metric.recorded_at m {counted}) s"
        ));
        let inside_us = number(format!("select avg(step_us) {counted}"));
        outside.push(100.0 * (1.0 - inside_us / step_us));
        sides[0].push(step_us / 1e3);
        sides[1].push(bare(&place, &settings));
    }
    let share: Vec<f64> =
        sides[0].iter().zip(&sides[1]).map(|(full, bare)| 100.0 * (1.0 - bare / full)).collect();
    println!("a run of short steps, {STEPS} steps, {ROUNDS} rounds in turn:");
    println!("  with log, odm, outlier and an open page {} ms a step", spread(&sides[0], 1));
    println!("  trainer and sampler alone               {} ms a step", spread(&sides[1], 1));
    println!("  share of the run's time that is not the bare step: {} %", spread(&share, 2));
    println!("  of it on the loop's own thread:                    {} %", spread(&outside, 2));
}

/// Mean step in milliseconds of the trainer alone, in a process of its own.
fn bare(place: &Place, settings: &[&str]) -> f64 {
    let arguments = place.train_args("bare", settings);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["--dry-run"]).collect();
    let spec = place.path("spec.json");
    std::fs::write(&spec, place.ok(&arguments)).expect("it is written");
    let prepared = std::fs::read_dir(place.path("data/prepared")).expect("data was prepared");
    let mut folders = prepared.flatten().map(|entry| entry.path());
    let folder = folders.find(|path| path.join("manifest.json").is_file()).expect("one folder");
    let [spec, folder] = [&spec, &folder].map(|path| path.to_str().expect("a path of text"));
    let steps = STEPS.to_string();
    figures_of(&mut this_program(&["bare-run", spec, folder, &steps]))["step_ms"].as_f64().unwrap()
}

/// `bare-run SPEC PREPARED STEPS`: prints the mean step of a trainer with nothing around it.
pub(crate) fn child(arguments: &[String]) {
    let [spec, folder, steps] = arguments else { panic!("SPEC PREPARED STEPS") };
    let spec: RunSpec = serde_json::from_str(&std::fs::read_to_string(spec).unwrap()).unwrap();
    let (folder, steps): (&Path, u64) = (folder.as_ref(), steps.parse().unwrap());
    let domains = Manifest::read(folder).unwrap().domains.len();
    let mixture = Mixture::from_shares(0, &vec![1.0; domains]).unwrap();
    let (length, sequences) = (spec.model.sequence_length, spec.training.sequences_per_step);
    let mut sampler = Sampler::open(folder, spec.seed, length).unwrap();
    let mut trainer = Trainer::new(&spec, &DeviceChoice::Cpu).unwrap();
    let mut start = Instant::now();
    for step in 0..steps {
        if step == WARM_UP {
            start = Instant::now();
        }
        let knobs = Knobs {
            learning_rate: spec.schedule.learning_rate(StepSpan::of_step(step, steps)),
            clip_norm: spec.optimizer.clip_norm,
            loss_weights: vec![1.0; domains],
            loss_scale: 1.0,
        };
        let batch = sampler.draw(&mixture, sequences).unwrap();
        trainer.step(&batch, &knobs, &mut |_| Verdict::Proceed).unwrap();
    }
    let step_ms = start.elapsed().as_secs_f64() * 1e3 / (steps - WARM_UP) as f64;
    println!("{}", serde_json::json!({ "step_ms": step_ms }));
}

/// Follows a run's stream as a page does, until the server closes it or the run has ended.
fn watch(address: &str, run: &str) -> std::thread::JoinHandle<()> {
    let host = address.trim_start_matches("http://").split('/').next().expect("a host").to_owned();
    let request = format!(
        "GET /api/v1/runs/{run}/events HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAccept: text/event-stream\r\n\r\n"
    );
    std::thread::spawn(move || {
        let mut stream = TcpStream::connect(&host).expect("the server answers");
        stream.write_all(request.as_bytes()).expect("it takes a request");
        let (mut seen, mut part) = (String::new(), [0; 4096]);
        while let Ok(count) = stream.read(&mut part)
            && count > 0
        {
            seen.push_str(&String::from_utf8_lossy(&part[..count]));
            if seen.contains("\"ending\":\"completed\"") {
                break;
            }
        }
        assert!(seen.starts_with("HTTP/1.1 200"), "{}", seen.lines().next().unwrap_or_default());
    })
}
