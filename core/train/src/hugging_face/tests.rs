//! Folders out and in again, to the bit; and folders that are refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hm_domain::step::Verdict;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use super::config_tests::llama;
use crate::tests::{digest, spec, state, step, trainer};
use crate::*;

const F32: ExportChoice = ExportChoice { element: ElementType::F32, shard_bytes: u64::MAX };

/// A checkpoint of a trainer that has learned a little.
fn checkpoint() -> (tempfile::TempDir, Trainer, ExportSource) {
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

fn export_to(source: &ExportSource, output: &Path, choice: ExportChoice) -> Result<Exported> {
    export(source, output, choice, None, &mut |_, _| {})
}

fn import_to(folder: &Path, output: &Path) -> Result<InitialWeights> {
    import(folder, output, &mut |_, _| {})
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
fn tensors(folder: &Path) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
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
    assert_eq!(weights.model, spec().model);
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
fn weights_too_large_for_their_type_are_refused_by_name() {
    let place = Folder::new();
    place
        .change("model.norm.weight", |_, _, data| data[..4].copy_from_slice(&7e4f32.to_le_bytes()));
    let weights = import_to(&place.path(), &place.at("in")).unwrap();
    let choice = ExportChoice { element: ElementType::F16, ..F32 };
    let error = export_to(&ExportSource::Initial(weights), &place.at("out"), choice).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("model.norm.weight holds 70000, which f16 cannot say"), "{text}");
    assert!(!place.at("out").exists());
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

#[test]
fn weights_that_do_not_fit_the_run_or_are_damaged_are_refused_and_nothing_changes() {
    let place = Folder::new();
    let weights = import_to(&place.path(), &place.at("in")).unwrap();
    let mut wide = spec();
    wide.model.ffn_size = 128;
    let mut other = trainer(&wide);
    let before = digest(&other);
    let error = other.start_from(&weights).unwrap_err().to_string();
    let sentence = "mlp.down_proj.weight is F32 [64, 176], the model wants F32 [64, 128]";
    assert!(error.contains(sentence), "{error}");
    assert_eq!(digest(&other), before);

    let file = place.at("in").join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let mut trainer = trainer(&spec());
    let before = digest(&trainer);
    let error = trainer.start_from(&weights).unwrap_err().to_string();
    assert!(
        error.contains(&weights.digest.to_string()) && error.contains("import them"),
        "{error}"
    );
    assert_eq!(digest(&trainer), before);
}

/// A Hugging Face folder in the shape of `nano`, written by the format's own writer.
struct Folder(tempfile::TempDir);

type Tensor = (Dtype, Vec<usize>, Vec<u8>);
type Change<'a> = dyn Fn(&mut BTreeMap<String, Tensor>) + 'a;

impl Folder {
    fn new() -> Folder {
        let (place, _, source) = checkpoint();
        export_to(&source, &place.path().join("hf"), F32).unwrap();
        let folder = Folder(place);
        std::fs::write(folder.path().join("config.json"), llama().to_string()).unwrap();
        folder
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn path(&self) -> PathBuf {
        self.at("hf")
    }

    fn change(&self, name: &str, change: impl Fn(&mut Dtype, &mut Vec<usize>, &mut Vec<u8>)) {
        self.rewrite(&|tensors| {
            let (dtype, shape, data) = tensors.get_mut(name).unwrap();
            change(dtype, shape, data);
        });
    }

    fn rewrite(&self, change: &Change<'_>) {
        let mut tensors = tensors(&self.path());
        change(&mut tensors);
        let views = tensors.iter().map(|(name, (dtype, shape, data))| {
            (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        let file = self.path().join("model.safetensors");
        safetensors::serialize_to_file(views, None, &file).unwrap();
    }

    /// What the import says of the folder as it is now; nothing is written.
    fn refused(&self) -> String {
        let error = import_to(&self.path(), &self.at("in")).unwrap_err().to_string();
        assert!(!self.at("in").exists() && !self.at(".in.hm-part").exists(), "{error}");
        error
    }
}

#[test]
fn tensors_that_are_not_the_models_are_refused_by_name_and_both_values() {
    let k = "model.layers.1.self_attn.k_proj.weight";
    let cases: [(&Change<'_>, &str); 6] = [
        (
            &|all| drop(all.remove(k)),
            "no tensor model.layers.1.self_attn.k_proj.weight: num_hidden_layers 2",
        ),
        (
            &|all| drop(all.insert("lm_head.bias".into(), (Dtype::F32, vec![1], vec![0; 4]))),
            "lm_head.bias [1] is no tensor of this model",
        ),
        (
            &|all| all.get_mut(k).unwrap().1 = vec![64, 32],
            "k_proj.weight has shape [64, 32], config.json wants [32, 64]",
        ),
        (
            &|all| {
                let tensor = all.get_mut(k).unwrap();
                *tensor = (Dtype::I32, tensor.1.clone(), tensor.2.clone());
            },
            "k_proj.weight is I32, only F32, BF16 and F16 are read",
        ),
        (
            &|all| all.get_mut(k).unwrap().2[20..24].copy_from_slice(&f32::NAN.to_le_bytes()),
            "k_proj.weight is NaN at element 5: weights must be finite",
        ),
        (
            &|all| all.get_mut(k).unwrap().2[..4].copy_from_slice(&f32::INFINITY.to_le_bytes()),
            "k_proj.weight is inf at element 0",
        ),
    ];
    for (change, sentence) in cases {
        let place = Folder::new();
        place.rewrite(change);
        let error = place.refused();
        assert!(error.contains("model.safetensors: ") && error.contains(sentence), "{error}");
    }
}

#[test]
fn layers_that_the_files_do_not_hold_are_refused_with_both_counts() {
    for layers in [1, 3, u32::MAX] {
        let place = Folder::new();
        let mut config = llama();
        config["num_hidden_layers"] = json!(layers);
        std::fs::write(place.path().join("config.json"), config.to_string()).unwrap();
        let error = place.refused();
        let wanted = 9 * u64::from(layers) + 3;
        let counts = format!("want {wanted} tensors, the files hold 21");
        assert!(error.contains(&counts), "{error}");
    }
}

#[test]
fn tables_of_rotary_frequencies_are_passed_over() {
    let place = Folder::new();
    let before = import_to(&place.path(), &place.at("before")).unwrap().digest;
    place.rewrite(&|all| {
        let table = (Dtype::F32, vec![8], vec![0; 32]);
        all.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), table);
    });
    assert_eq!(import_to(&place.path(), &place.at("after")).unwrap().digest, before);
}

#[test]
fn damaged_files_are_refused_by_name() {
    let place = Folder::new();
    let file = place.path().join("model.safetensors");
    let whole = std::fs::read(&file).unwrap();
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let patched = |from: &str, to: &str| {
        let text = String::from_utf8(whole[8..8 + header].to_vec()).unwrap();
        assert!(text.contains(from) && from.len() == to.len());
        let mut bytes = whole.clone();
        bytes[8..8 + header].copy_from_slice(text.replacen(from, to, 1).as_bytes());
        bytes
    };
    let mut endless = whole.clone();
    endless[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let half = whole[..whole.len() / 2].to_vec();
    let longer = [whole.clone(), vec![0]].concat();
    let cases = [
        (Vec::new(), "is no safetensors file: 0 bytes"),
        (whole[..7].to_vec(), "is no safetensors file: 7 bytes"),
        (whole[..100].to_vec(), "announces a header of"),
        (half, "its header describes"),
        (longer, "its header describes"),
        (endless, "announces a header of 18446744073709551615 bytes"),
        (patched("\"F32\"", "\"F33\""), "its header entry"),
        (patched("\"F32\"", "\"F16\""), "but has bytes 0 to 131072"),
        (patched("[0,131072]", "[9,131081]"), "begins at byte"),
        (patched("{\"", "[\""), "its header is no JSON object"),
    ];
    for (bytes, sentence) in cases {
        std::fs::write(&file, bytes).unwrap();
        let error = place.refused();
        assert!(error.contains("model.safetensors: ") && error.contains(sentence), "{error}");
    }
    std::fs::remove_file(&file).unwrap();
    let error = place.refused();
    assert!(error.contains("holds neither model.safetensors nor"), "{error}");
}

#[test]
fn index_that_does_not_say_what_the_shards_hold_is_refused() {
    let change = |change: &dyn Fn(&mut serde_json::Value)| {
        let (place, _, source) = checkpoint();
        let choice = ExportChoice { shard_bytes: 100_000, ..F32 };
        let folder = Folder(place);
        export_to(&source, &folder.path(), choice).unwrap();
        let file = folder.path().join("model.safetensors.index.json");
        let mut index = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        change(&mut index);
        std::fs::write(&file, index.to_string()).unwrap();
        folder.refused()
    };
    let error = change(&|index| {
        index["weight_map"]["model.norm.weight"] = index["weight_map"]["lm_head.weight"].clone();
    });
    assert!(error.contains("says that model.norm.weight is in model-00001-of"), "{error}");
    let error = change(&|index| {
        index["weight_map"].as_object_mut().unwrap().remove("model.norm.weight");
    });
    assert!(error.contains("does not say that model.norm.weight is in"), "{error}");
    let error = change(&|index| index["weight_map"]["model.norm.weight"] = json!("../else"));
    assert!(error.contains("`../else`"), "{error}");
    let error =
        change(&|index| index["weight_map"]["model.norm.weight"] = json!("gone.safetensors"));
    assert!(error.contains("gone.safetensors"), "{error}");
    let error = change(&|index| *index = json!([]));
    assert!(error.contains("is no index"), "{error}");
}
