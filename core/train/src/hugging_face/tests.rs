//! Folders out and in again, to the bit; and what is not exported.

use std::collections::BTreeMap;
use std::path::Path;

use hm_domain::spec::ModelSpec;
use hm_domain::step::Verdict;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use crate::tests::{spec, state, step, trainer};
use crate::*;

pub(super) const F32: ExportChoice =
    ExportChoice { element: ElementType::F32, shard_bytes: u64::MAX };

/// A checkpoint of a trainer that has learned a little.
pub(super) fn checkpoint() -> (tempfile::TempDir, Trainer, ExportSource) {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = trainer(&spec());
    (0..3).for_each(|number| drop(step(&mut trainer, number, Verdict::Proceed)));
    let saved = trainer.save(folder.path(), &state(&trainer, 3)).unwrap();
    let source = ExportSource::Checkpoint {
        folder: folder.path().join(&saved.folder),
        model: spec().model,
        digest: saved.digest,
    };
    (folder, trainer, source)
}

pub(super) fn export_to(
    source: &ExportSource,
    output: &Path,
    choice: ExportChoice,
) -> Result<Exported> {
    export(source, output, choice, None, &mut |_, _| {})
}

pub(super) fn import_to(folder: &Path, output: &Path) -> Result<InitialWeights> {
    import(folder, output, None, &mut |_, _| {})
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// Tensors of all safetensors files of a folder, as the format's own reader sees them.
pub(super) fn tensors(folder: &Path) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for (name, bytes) in files(folder) {
        if name.ends_with(".safetensors") {
            for (tensor, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
                let (shape, data) = (view.shape().to_vec(), view.data().to_vec());
                assert!(found.insert(tensor, (view.dtype(), shape, data)).is_none());
            }
        }
    }
    found
}

#[test]
fn exported_folder_imports_to_the_same_bits() {
    let (place, mut trained, source) = checkpoint();
    let path = |name: &str| place.path().join(name);
    let exported = export_to(&source, &path("out"), F32).unwrap();
    assert_eq!(exported.parameters, spec().model.parameter_count());
    let weights = import_to(&path("out"), &path("in")).unwrap();
    // Weights that are there were not drawn.
    assert_eq!(weights.model, ModelSpec { scaled_init: false, ..spec().model });
    export_to(&ExportSource::Initial(weights.clone()), &path("again"), F32).unwrap();
    assert_eq!(files(&path("out")), files(&path("again")));
    assert_eq!(files(&path("out")).len(), 3, "weights and two configurations");

    let mut started = trainer(&spec());
    step(&mut started, 7, Verdict::Proceed);
    started.start_from(&weights).unwrap();
    assert_eq!(started.updates(), 0);
    let ids = [3, 1, 4, 1, 5];
    assert_eq!(started.logits(&ids).unwrap(), trained.logits(&ids).unwrap());
    let losses = [&mut started, &mut trained].map(|t| step(t, 4, Verdict::Proceed).losses);
    assert_eq!(losses[0], losses[1]);
}

#[test]
fn shards_hold_what_one_file_holds_and_the_index_says_where() {
    let (place, _, source) = checkpoint();
    let path = |name: &str| place.path().join(name);
    export_to(&source, &path("one"), F32).unwrap();
    // Smaller than the embedding, which then has a file of its own.
    let choice = ExportChoice { shard_bytes: 100_000, ..F32 };
    let exported = export_to(&source, &path("many"), choice).unwrap();
    assert_eq!(tensors(&path("one")), tensors(&path("many")));
    let many = files(&path("many"));
    let count = many.keys().filter(|name| name.ends_with(".safetensors")).count();
    assert!(count > 3 && count == exported.shards, "{count}");
    assert!(many.contains_key(&format!("model-00001-of-{count:05}.safetensors")));
    let index: serde_json::Value =
        serde_json::from_slice(&many["model.safetensors.index.json"]).unwrap();
    assert_eq!(index["metadata"]["total_size"], 4 * spec().model.parameter_count());
    for (tensor, file) in index["weight_map"].as_object().unwrap() {
        let shard = SafeTensors::deserialize(&many[file.as_str().unwrap()]).unwrap();
        shard.tensor(tensor).unwrap();
    }
    let (a, b) = (import_to(&path("one"), &path("a")), import_to(&path("many"), &path("b")));
    assert_eq!(a.unwrap().digest, b.unwrap().digest);
}

#[test]
fn halves_are_written_rounded_and_read_exactly() {
    let (place, _, source) = checkpoint();
    let path = |name: String| place.path().join(name);
    for element in [ElementType::Bf16, ElementType::F16] {
        let choice = ExportChoice { element, ..F32 };
        let out = path(format!("{element:?}-out"));
        export_to(&source, &out, choice).unwrap();
        let weights = import_to(&out, &path(format!("{element:?}-in"))).unwrap();
        let again = path(format!("{element:?}-again"));
        export_to(&ExportSource::Initial(weights), &again, choice).unwrap();
        assert_eq!(files(&out), files(&again), "{element:?}");
        let all = tensors(&out);
        assert!(all.values().all(|(dtype, ..)| *dtype == element.dtype()));
    }
}

#[test]
fn damaged_checkpoint_is_not_exported_and_leaves_nothing() {
    let (place, _, source) = checkpoint();
    let ExportSource::Checkpoint { folder, .. } = &source else { unreachable!() };
    for name in ["model.safetensors", "moments.safetensors", "state.json"] {
        let file = folder.join(name);
        let whole = std::fs::read(&file).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        std::fs::write(&file, flipped).unwrap();
        let error = export_to(&source, &place.path().join("out"), F32).unwrap_err();
        assert!(matches!(error, TrainError::Digest { .. }), "{name}: {error}");
        std::fs::write(&file, whole).unwrap();
    }
    assert_eq!(files_in(place.path()), 1, "only the checkpoint is there");
}

fn files_in(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn checkpoint_of_another_model_is_not_exported() {
    let (place, _, source) = checkpoint();
    let ExportSource::Checkpoint { folder, mut model, digest } = source else { unreachable!() };
    let output = place.path().join("out");
    let mut refused = |change: &dyn Fn(&mut hm_domain::spec::ModelSpec), sentence: &str| {
        change(&mut model);
        let (folder, model) = (folder.clone(), model.clone());
        let source = ExportSource::Checkpoint { folder, model, digest };
        let error = export_to(&source, &output, F32).unwrap_err().to_string();
        assert!(error.contains(sentence) && !output.exists(), "{error}");
    };
    let wide = "mlp.down_proj.weight is F32 [64, 176], the model wants F32 [64, 128]";
    refused(&|model| model.ffn_size = 128, wide);
    refused(&|model| model.layers = 3, "model.safetensors: holds 21 tensors, the model wants 30");
}

#[test]
fn folder_that_holds_something_is_left_as_it_is() {
    let (place, _, source) = checkpoint();
    let path = |name: &str| place.path().join(name);
    export_to(&source, &path("out"), F32).unwrap();
    let before = files(&path("out"));
    let choice = ExportChoice { element: ElementType::F16, ..F32 };
    let refused = |error: TrainError| {
        let text = error.to_string();
        assert!(text.contains("out") && text.contains("not empty"), "{text}");
    };
    refused(export_to(&source, &path("out"), choice).unwrap_err());
    refused(import_to(&path("out"), &path("out")).unwrap_err());
    assert_eq!(files(&path("out")), before);
    // An empty folder, and what a crash left beside it, are in nobody's way.
    std::fs::create_dir(path("empty")).unwrap();
    std::fs::create_dir(path(".empty.hm-part")).unwrap();
    std::fs::write(path(".empty.hm-part/model.safetensors"), "half").unwrap();
    export_to(&source, &path("empty"), F32).unwrap();
    assert_eq!(files(&path("empty")), before);
    assert!(!path(".empty.hm-part").exists());
}

#[test]
fn tokenizer_with_more_ids_than_the_model_has_rows_is_refused() {
    let (place, _, source) = checkpoint();
    let files = TokenizerFiles {
        json: b"{}".to_vec(),
        vocabulary: 513,
        begin: None,
        end: None,
        padding: None,
    };
    let output = place.path().join("out");
    let error =
        export(&source, &output, F32, Some(&files), &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("513 ids") && error.contains("512 rows"), "{error}");
    assert!(!output.exists());
}
