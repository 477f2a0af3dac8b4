//! Checkpoints that are damaged, foreign or cannot be written.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use hm_domain::id::Digest;
use hm_domain::step::Verdict;

use crate::ops::values;
use crate::parameters::Parameter;
use crate::tests::{digest, spec, state, step, trainer};
use crate::*;

const FILES: [&str; 3] = ["model.safetensors", "moments.safetensors", "state.json"];

/// A trainer one step on from a checkpoint of it, and where that is.
fn saved() -> (tempfile::TempDir, Trainer, SavedCheckpoint, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = trainer(&spec());
    let saved = trainer.save(folder.path(), &state(&trainer, 0)).unwrap();
    step(&mut trainer, 0, Verdict::Proceed);
    let path = folder.path().join(&saved.folder);
    (folder, trainer, saved, path)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn flipped_bytes_are_refused_with_both_digests_and_nothing_changes() {
    let (_folder, mut trainer, saved, path) = saved();
    let before = digest(&trainer);
    for name in FILES {
        let whole = std::fs::read(path.join(name)).unwrap();
        let mut flipped = whole.clone();
        // The last byte of a tensor is a value; in state.json a digit is another state.
        let digit = whole.iter().rposition(|byte| *byte == b'1').filter(|_| name == "state.json");
        flipped[digit.unwrap_or(whole.len() - 1)] ^= 2;
        std::fs::write(path.join(name), &flipped).unwrap();
        let error = trainer.load(&path, saved.digest).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, TrainError::Digest { .. }), "{name}: {text}");
        assert!(text.contains(&saved.folder) && text.contains(&saved.digest.to_string()), "{text}");
        std::fs::write(path.join(name), &whole).unwrap();
    }
    assert_eq!(digest(&trainer), before);
    trainer.load(&path, saved.digest).unwrap();
    assert_ne!(digest(&trainer), before);
}

#[test]
fn weights_that_are_not_finite_are_not_saved_and_the_parameter_is_named() {
    let (folder, mut trainer, saved, path) = saved();
    trainer.load(&path, saved.digest).unwrap();
    let part: [fn(&mut Parameter) -> &mut Tensor<2>; 3] =
        [|p| &mut p.value, |p| &mut p.first_moment, |p| &mut p.second_moment];
    let cases = [
        (part[0], "model.norm.weight", f32::NAN, ""),
        (part[0], "lm_head.weight", f32::INFINITY, ""),
        (part[1], "lm_head.weight", f32::NEG_INFINITY, ".m"),
        (part[2], "model.layers.1.mlp.up_proj.weight", f32::NAN, ".v"),
    ];
    for (part, path, number, ending) in cases {
        let tensor = part(trainer.parameters_mut().get_mut(path).unwrap());
        let whole = tensor.clone();
        // The last of all: nothing before it gives it away.
        let mut numbers = values(whole.clone());
        *numbers.last_mut().unwrap() = number;
        *tensor = Tensor::from_data(TensorData::new(numbers, whole.dims()), &Device::flex());
        let error = trainer.save(folder.path(), &state(&trainer, 1)).unwrap_err();
        let due = format!("{path}{ending}");
        assert!(matches!(&error, TrainError::WeightsNotFinite { path } if *path == due), "{error}");
        assert_eq!(
            names(folder.path()),
            std::slice::from_ref(&saved.folder),
            "nothing half written"
        );
        *part(trainer.parameters_mut().get_mut(path).unwrap()) = whole;
    }
    assert_eq!(trainer.save(folder.path(), &state(&trainer, 0)).unwrap(), saved);
}

#[test]
fn first_values_are_drawn_only_where_nothing_is_loaded_before_they_are_needed() {
    let (_folder, _, saved, path) = saved();
    let drawn = |trainer: &Trainer| trainer.team.replicas()[0].parameters.get().is_some();
    let mut loaded = trainer(&spec());
    assert!(loaded.load(&path, Digest::ZERO).is_err() && !drawn(&loaded));
    loaded.load(&path, saved.digest).unwrap();
    let fresh = trainer(&spec());
    assert!(drawn(&loaded) && !drawn(&fresh));
    // The checkpoint is of the first values, so both are alike.
    assert_eq!(digest(&loaded), digest(&fresh));
    assert!(drawn(&fresh));
}

#[test]
fn truncated_or_missing_files_are_refused_by_name_and_nothing_changes() {
    let (_folder, mut trainer, saved, path) = saved();
    let before = digest(&trainer);
    for name in FILES {
        let file = path.join(name);
        let whole = std::fs::read(&file).unwrap();
        for length in [0, 7, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&file, &whole[..length]).unwrap();
            let error = trainer.load(&path, saved.digest).unwrap_err().to_string();
            assert!(error.contains(&saved.folder), "{name} of {length} bytes: {error}");
        }
        std::fs::remove_file(&file).unwrap();
        let error = trainer.load(&path, saved.digest).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        std::fs::write(&file, &whole).unwrap();
    }
    assert_eq!(digest(&trainer), before);
}

#[test]
fn checkpoints_of_other_models_are_refused_with_both_values() {
    let (_folder, _, saved, path) = saved();
    let (mut wide, mut deep, mut shallow, mut other_data) = (spec(), spec(), spec(), spec());
    wide.model.ffn_size = 128;
    deep.model.layers = 3;
    shallow.model.layers = 1;
    other_data.domains.pop();
    let cases = [
        (wide, "mlp.down_proj.weight is F32 [64, 176], the model wants F32 [64, 128]"),
        (deep, "model.safetensors: holds 21 tensors, the model wants 30"),
        (shallow, "model.safetensors: holds 21 tensors, the model wants 12"),
        (other_data, "state.json: is of a run with 2 domains, this run has 1"),
    ];
    for (spec, sentence) in cases {
        let mut other = Trainer::new(&spec, &DeviceChoice::Cpu).unwrap();
        let before = digest(&other);
        let error = other.load(&path, saved.digest).unwrap_err().to_string();
        assert!(error.contains(&saved.folder) && error.contains(sentence), "{error}");
        assert_eq!(digest(&other), before);
    }
}

#[test]
fn saving_again_keeps_what_is_whole_and_mends_what_is_damaged() {
    let (folder, mut trainer, saved, path) = saved();
    trainer.load(&path, saved.digest).unwrap();
    let marker = std::fs::metadata(path.join(FILES[0])).unwrap().modified().unwrap();
    assert_eq!(trainer.save(folder.path(), &state(&trainer, 0)).unwrap(), saved);
    let kept = std::fs::metadata(path.join(FILES[0])).unwrap().modified().unwrap();
    assert_eq!(kept, marker, "a whole checkpoint is not written again");
    std::fs::write(path.join(FILES[0]), "damaged").unwrap();
    assert_eq!(trainer.save(folder.path(), &state(&trainer, 0)).unwrap(), saved);
    assert_eq!(names(folder.path()), std::slice::from_ref(&saved.folder));
    trainer.load(&path, saved.digest).unwrap();
}

#[test]
fn leftovers_of_a_crash_are_removed_at_the_next_save_and_nothing_else_is() {
    let (folder, mut trainer, saved, path) = saved();
    let replaced = format!("{}.replaced.part", saved.folder);
    let theirs = ["backup-of-mine.part", "a000-s0000000009-abc.part", "a000-s0000000009-mine"];
    for left in ["a000-s0000000009.part", &replaced].iter().chain(&theirs) {
        std::fs::create_dir(folder.path().join(left)).unwrap();
        std::fs::write(folder.path().join(left).join(FILES[0]), "half").unwrap();
    }
    // Files and links are never ours, whatever their names.
    std::fs::write(folder.path().join("notes.part"), "mine").unwrap();
    std::fs::write(folder.path().join("a000-s0000000008.part"), "mine").unwrap();
    std::os::unix::fs::symlink(&path, folder.path().join("a000-s0000000007.part")).unwrap();
    let next = trainer.save(folder.path(), &state(&trainer, 1)).unwrap();
    let mut due = vec![saved.folder.clone(), next.folder, "notes.part".to_owned()];
    due.extend(theirs.map(str::to_owned));
    due.extend([7, 8].map(|step| format!("a000-s000000000{step}.part")));
    due.sort();
    assert_eq!(names(folder.path()), due);
    trainer.load(&path, saved.digest).unwrap();
}

#[test]
fn folders_are_checkpoints_by_their_names_to_the_letter_and_the_state_in_them() {
    let (folder, _, saved, path) = saved();
    let found = || -> Vec<(String, u64)> {
        let found = checkpoints_in(folder.path()).unwrap().into_iter();
        found.map(|(folder, state)| (folder, state.next_step)).collect()
    };
    assert_eq!(found(), [(saved.folder.clone(), 0)]);
    let copy = |name: &str| {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        std::fs::copy(path.join(FILES[2]), folder.path().join(name).join(FILES[2])).unwrap();
    };
    // A person's copy, another step than the state's, and a folder without a state.
    copy(&format!("{}-backup", saved.folder));
    copy("a000-s0000000009-0123456789ab");
    std::fs::create_dir(folder.path().join("a000-s0000000008-0123456789ab")).unwrap();
    assert_eq!(found().len(), 1);
}

#[test]
fn folder_that_cannot_be_made_is_an_error_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("file");
    std::fs::write(&blocked, "in the way").unwrap();
    let trainer = trainer(&spec());
    assert!(trainer.save(&blocked, &state(&trainer, 0)).is_err());
    assert_eq!(names(folder.path()), ["file"]);
}

#[test]
fn file_in_place_of_the_folder_is_an_error_and_the_old_checkpoint_stays_whole() {
    let (folder, mut trainer, saved, path) = saved();
    let elsewhere = tempfile::tempdir().unwrap();
    let next = trainer.save(elsewhere.path(), &state(&trainer, 1)).unwrap();
    std::fs::write(folder.path().join(&next.folder), "in the way").unwrap();
    let error = trainer.save(folder.path(), &state(&trainer, 1)).unwrap_err().to_string();
    assert!(error.contains(&next.folder) && error.contains("in the way"), "{error}");
    assert_eq!(names(folder.path()), [saved.folder.clone(), next.folder]);
    trainer.load(&path, saved.digest).unwrap();
}

/// Runs itself as a child process, whose files may not grow beyond a limit: as on a full disk, writes
/// fail halfway. No root, no mount.
#[cfg(unix)]
#[test]
fn full_disk_leaves_the_old_checkpoints_whole() {
    const CHILD: &str = "HM_TEST_FILE_BYTES_MAX";
    if std::env::var_os(CHILD).is_none() {
        let name = "checkpoint_tests::full_disk_leaves_the_old_checkpoints_whole";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let output = child.args(["--exact", name]).env(CHILD, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let (folder, mut trainer, saved, path) = saved();
    let before = digest(&trainer);
    limit_file_bytes(100_000);
    let error = trainer.save(folder.path(), &state(&trainer, 1)).unwrap_err().to_string();
    assert!(error.contains("model.safetensors: File too large"), "{error}");
    assert_eq!(names(folder.path()), std::slice::from_ref(&saved.folder));
    limit_file_bytes(u64::MAX);
    assert_eq!(digest(&trainer), before);
    trainer.load(&path, saved.digest).unwrap();
}

#[cfg(unix)]
#[expect(unsafe_code, reason = "the C library is the only way to limit this process's files")]
fn limit_file_bytes(bytes_max: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit lives on this stack; an ignored signal makes a write beyond it an error.
    unsafe {
        assert_ne!(libc::signal(libc::SIGXFSZ, libc::SIG_IGN), libc::SIG_ERR);
        assert_eq!(libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit), 0);
        limit.rlim_cur = bytes_max.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
    }
}
