//! What `hm train --dry-run` says a run will need, against what one needs.

use crate::place::Place;

/// Peak resident bytes of a process so far (Linux).
fn peak(process: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok().map(|kilobytes: u64| kilobytes * 1024)
}

#[test]
fn dry_run_says_within_a_tenth_what_memory_a_run_uses() {
    let place = Place::with_run_file();
    for (name, more) in [
        ("whole", "training.recompute_blocks=false"),
        ("again", "training.recompute_blocks=true"),
        ("parts", "training.micro_batch_sequences=8"),
    ] {
        let sets = [
            "model={\"preset\":\"tiny\"}",
            "data.vocabulary=300",
            "training.sequences_per_step=24",
            "training.steps=2",
            "validation.sequences_per_domain=1",
            "plugins=[]",
            more,
        ];
        let arguments = place.train_args(name, &sets);
        let mut dry: Vec<&str> = arguments.iter().map(String::as_str).collect();
        dry.extend(["--dry-run", "--json"]);
        let said: serde_json::Value = serde_json::from_str(&place.ok(&dry)).unwrap();
        let memory = said["costs"]["memory"].as_object().unwrap();
        let parts = memory.iter().filter(|(name, _)| name.ends_with("_bytes"));
        let expected = parts.map(|(_, bytes)| bytes.as_u64().unwrap()).sum::<u64>()
            + said["costs"]["process_bytes"].as_u64().unwrap();

        let mut worker = place.train_in_background(name, &sets);
        let mut used = 0;
        while worker.0.try_wait().unwrap().is_none() {
            used = used.max(peak(worker.0.id()).unwrap_or_default());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(worker.end().0, Some(0));
        let ratio = used as f64 / expected as f64;
        assert!((0.9..1.1).contains(&ratio), "{name}: {used} bytes used, {expected} expected");
    }
}
