//! Hugging Face folders that are refused, and weights that no run can start from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use super::config_tests::llama;
use super::tests::{F32, checkpoint, export_to, import_to, tensors};
use crate::tests::{digest, spec, trainer};
use crate::*;

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
    for layers in [1u32, 3, 4096] {
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
fn one_file_beside_shards_is_refused_by_name() {
    let place = Folder::new();
    let single = std::fs::read(place.path().join("model.safetensors")).unwrap();
    let (sharded, _, source) = checkpoint();
    let folder = Folder(sharded);
    export_to(&source, &folder.path(), ExportChoice { shard_bytes: 100_000, ..F32 }).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), single).unwrap();
    let error = folder.refused();
    let sentence = "model.safetensors: lies beside shards that model.safetensors.index.json names";
    assert!(error.contains(sentence) && error.contains("remove this file"), "{error}");
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
