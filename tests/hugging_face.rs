//! Models out to Hugging Face folders and in again, and runs that start from them, through the binary.

use std::collections::BTreeMap;

use hm_data::Tokenizer;
use hm_domain::spec::RunSpec;
use hm_train::{DeviceChoice, InitialWeights, Trainer};

use crate::place::{Place, repository};

/// What the trained model is asked to go on with: text it has seen and text it has not.
const PROMPTS: [&str; 4] = ["the cat", "7 times 8 is 56, 7", "on 8 mat", "数据 the"];
/// Tokens that it adds at most.
const NEW_TOKENS: usize = 24;

/// A place where the run `first` has learned a little; it needs no plugins.
fn trained() -> Place {
    let place = Place::new();
    for (name, words) in [("plain", "the cat sat on the mat"), ("numbers", "7 times 8 is 56")] {
        let line = |n: u32| format!("{{\"text\":\"{words}, {words}. {n}\"}}\n");
        std::fs::write(
            place.path(&format!("{name}.jsonl")),
            (0..300).map(line).collect::<String>(),
        )
        .unwrap();
    }
    let run_file = "name: first\ndata:\n  vocabulary: 300\n  validation: { fraction: 0.1 }\n  sources:\n    \
        - { path: plain.jsonl, format: jsonl }\n    - { path: numbers.jsonl, format: jsonl }\n\
        model: { preset: nano }\ntraining: { steps: 60, sequences_per_step: 8, learning_rate: 3.0e-3 }\n\
        checkpoint: { every_steps: 30, keep: 2 }\n";
    std::fs::write(place.path("run.yaml"), run_file).unwrap();
    place.train("first", &[]);
    place
}

impl Place {
    /// A path in this place as text.
    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// `hm COMMAND SOURCE --output OUTPUT MORE`, as JSON.
    fn moved(&self, command: &str, source: &str, output: &str, more: &[&str]) -> serde_json::Value {
        let output = self.text(output);
        let args = [&[command, source, "--output", &output, "--json"], more].concat();
        serde_json::from_str(&self.ok(&args)).unwrap()
    }

    /// The spec that `hm train --dry-run` would train under these settings.
    fn spec(&self, name: &str, sets: &[&str]) -> RunSpec {
        let mut args = self.train_args(name, sets);
        args.extend(["--dry-run".to_owned(), "--new".to_owned()]);
        serde_json::from_str(&self.ok(&args.iter().map(String::as_str).collect::<Vec<_>>()))
            .unwrap()
    }

    fn train_refused_under(&self, sets: &[&str]) -> String {
        let args = self.train_args("refused", sets);
        self.refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), 2)
    }

    fn files(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(self.path(name)).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                (name, std::fs::read(entry.path()).unwrap())
            })
            .collect()
    }

    fn loss_at(&self, name: &str, step: u64) -> f64 {
        let query = format!(
            "select loss from step_metric s join run r using (run_id) \
             where r.name = '{name}' and s.step = {step}"
        );
        self.sql(&query).parse().unwrap()
    }
}

#[test]
fn exported_run_comes_back_to_the_bit_and_another_run_starts_from_it() {
    let place = trained();
    let exported = place.moved("export", "first", "model", &[]);
    assert_eq!(exported["shards"], 1);
    let files = place.files("model");
    let names = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert!(files.keys().eq(names), "{:?}", files.keys());
    let config: serde_json::Value = serde_json::from_slice(&files["config.json"]).unwrap();
    assert_eq!((&config["bos_token_id"], &config["eos_token_id"]), (&298.into(), &299.into()));

    let imported = place.moved("import", &place.text("model"), "weights", &[]);
    assert_eq!(imported["parameters"], exported["parameters"]);
    place.moved("export", &place.text("weights"), "again", &[]);
    assert_eq!(place.files("again"), files);

    let start = [r#"model={"from":"weights"}"#, "training.steps=10", "data.vocabulary=null"];
    let (first, second) = (place.spec("first", &[]), place.spec("second", &start));
    assert_eq!(second.tokenizer, first.tokenizer, "that of the weights, unless another is named");
    assert_eq!(second.initial_weights.unwrap().to_string(), imported["digest"].as_str().unwrap());
    place.train("second", &start);
    let (fresh, learned) = (place.loss_at("first", 0), place.loss_at("second", 0));
    assert!(learned < 0.6 * fresh, "{learned} {fresh}");
    assert_eq!(place.audit("second", &["--strict"], 0)["steps"], 10);

    // GPT-2's three files in place of tokenizer.json make the same tokenizer.
    let json = std::fs::read(place.path("model/tokenizer.json")).unwrap();
    write_vocabulary_files(&place.path("model"), &json);
    std::fs::remove_file(place.path("model/tokenizer.json")).unwrap();
    place.moved("import", &place.text("model"), "of-old", &[]);
    let start = [r#"model={"from":"of-old"}"#, "data.vocabulary=null"];
    let of_old = hm_data::Tokenizer::read(&place.path("of-old/tokenizer.json")).unwrap().0;
    let whole = hm_data::Tokenizer::read(&place.path("weights/tokenizer.json")).unwrap().0;
    let text = "fn main() { 数据 </s> }";
    assert_eq!(of_old.encode(text).unwrap(), whole.encode(text).unwrap());
    assert_eq!(place.spec("third", &start).initial_weights, second.initial_weights);

    // A checkpoint by its folder is the same as by its run.
    let folder = place.sql(
        "select r.run_id || '/' || c.folder from checkpoint c join run r using (run_id) \
         where r.name = 'first' order by c.step desc limit 1",
    );
    let folder = place.text(&format!("data/checkpoints/{folder}"));
    place.moved("export", &folder, "by-folder", &[]);
    assert_eq!(place.files("by-folder"), files);
}

fn write_vocabulary_files(folder: &std::path::Path, tokenizer_json: &[u8]) {
    let json: serde_json::Value = serde_json::from_slice(tokenizer_json).unwrap();
    let vocabulary = json["model"]["vocab"].as_object().unwrap();
    let pair = |pair: &serde_json::Value| {
        format!("{} {}\n", pair[0].as_str().unwrap(), pair[1].as_str().unwrap())
    };
    let merges: String = json["model"]["merges"].as_array().unwrap().iter().map(pair).collect();
    let tokens = json["added_tokens"].as_array().unwrap().iter();
    let added: serde_json::Map<String, serde_json::Value> = tokens
        .map(|token| (token["content"].as_str().unwrap().to_owned(), token["id"].clone()))
        .filter(|(name, _)| !vocabulary.contains_key(name))
        .collect();
    for (name, text) in [
        ("vocab.json", json["model"]["vocab"].to_string()),
        ("merges.txt", format!("#version: 0.2\n{merges}")),
        ("added_tokens.json", serde_json::Value::Object(added).to_string()),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

#[test]
fn run_under_other_weights_than_it_started_from_is_refused_with_both_digests() {
    let place = trained();
    for (dtype, name) in [("f32", "weights"), ("f16", "others")] {
        place.moved("export", "first", dtype, &["--dtype", dtype]);
        place.moved("import", &place.text(dtype), name, &[]);
    }
    let start = |name: &str| format!(r#"model={{"from":"{name}"}}"#);
    let (weights, others) = (start("weights"), start("others"));
    let steps = "training.steps=100000";
    let worker = place.train_in_background("loop", &[&weights, steps]);
    place.wait_for_step("loop", 3);
    assert_eq!(worker.interrupt(), Some(130));
    let args = place.train_args("loop", &[&others, steps]);
    let error = place.refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), 2);
    let digest = |start: &str| place.spec("loop", &[start]).initial_weights.unwrap().to_string();
    assert!(error.contains(&digest(&weights)) && error.contains(&digest(&others)), "{error}");
    // The same weights elsewhere are the same run.
    std::fs::rename(place.path("weights"), place.path("moved")).unwrap();
    let worker = place.train_in_background("loop", &[&start("moved"), steps]);
    place.wait_for_step("loop", place.steps("loop") + 3);
    assert_eq!(worker.interrupt(), Some(130));
}

#[test]
fn what_cannot_be_exported_imported_or_started_from_is_refused_by_name() {
    let place = trained();
    let refused = |args: &[&str], sentences: &[&str]| {
        let error = place.refused(args, 2);
        sentences.iter().for_each(|sentence| assert!(error.contains(sentence), "{error}"));
    };
    let (out, here) = (place.text("out"), place.text("."));
    refused(&["export", "nobody", "--output", &out], &["no run `nobody`"]);
    refused(&["export", &here, "--output", &out], &["neither a folder of `hm import` nor"]);
    refused(&["export", "first", "--output", &out, "--dtype", "int8"], &["`int8`", "bf16"]);
    refused(&["export", "first", "--output", &here], &["is there already and not empty"]);
    refused(&["import", &here, "--output", &out], &["config.json"]);
    assert!(!place.path("out").exists());

    place.moved("export", "first", "model", &[]);
    let unread = place.text("model");
    let due = format!("Hugging Face: `hm import {unread} --output my-weights` makes");
    refused(
        &["generate", &unread, "--prompt", "a"],
        &["neither a folder of `hm import` nor", &due],
    );
    place.moved("import", &place.text("model"), "weights", &[]);
    let refused = |sets: &[&str], sentence: &str| {
        let error = place.train_refused_under(sets);
        assert!(error.contains(sentence), "{error}");
    };
    refused(&[r#"model={"preset":"nano","from":"weights"}"#], "leave one of the two out");
    refused(&["model={}"], "model.preset is not given: must be one of nano");
    refused(&[r#"model={"from":"model"}"#], "no weights of `hm import`");
    let other = r#"model={"from":"weights","layers":3,"init_std":0.1}"#;
    refused(&[other], "model.layers is 3: the weights of model.from have 2");
    refused(&[other], "model.init_std is 0.1: model.from brings all weights");
    let long = r#"model={"from":"weights","sequence_length":65}"#;
    refused(&[long], "model.sequence_length is 65: the weights of model.from have seen 64");
    let file = place.path("weights/model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    refused(&[r#"model={"from":"weights"}"#], "import them again");
    assert_eq!(place.sql("select count(*) from run"), "1", "no run is left behind");
}

/// Repeated live by `make verify-hf`; without the interpreter it names there is nothing to ask.
#[test]
fn exported_run_loads_in_transformers_with_the_same_logits_and_greedy_text() {
    let Some(python) = std::env::var_os("HM_TRANSFORMERS_PYTHON") else {
        eprintln!("skipped: HM_TRANSFORMERS_PYTHON names no Python with transformers");
        return;
    };
    let place = trained();
    place.moved("export", "first", "f32", &["--shard-bytes", "60000"]);
    place.moved("export", "first", "bf16", &["--dtype", "bf16"]);
    place.moved("export", "first", "f16", &["--dtype", "f16"]);
    place.moved("import", &place.text("f32"), "weights", &[]);
    let expected = place.ours("weights");
    std::fs::write(place.path("expected.json"), expected.to_string()).unwrap();
    let script = repository().join("core/train/fixtures/load_export.py");
    let mut command = std::process::Command::new(python);
    command.arg("-W").arg("ignore").arg(script).arg(place.path("expected.json"));
    let folders = ["f32", "bf16", "f16"].map(|name| place.path(name));
    let output = command.args(folders).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("agree"), "{said}{errors}");
    println!("{said}");
}

impl Place {
    /// What we make of imported weights: ids of each prompt, logits after each, and how `hm generate`
    /// goes on with it.
    fn ours(&self, name: &str) -> serde_json::Value {
        let weights = InitialWeights::read(&self.path(name)).unwrap();
        let (tokenizer, _) = Tokenizer::read(&weights.tokenizer().unwrap()).unwrap();
        let spec = self.spec("first", &[]);
        let mut trainer = Trainer::new(&spec, &DeviceChoice::Cpu).unwrap();
        trainer.start_from(&weights).unwrap();
        let (folder, count) = (self.text(name), NEW_TOKENS.to_string());
        let prompts = PROMPTS.map(|text| {
            let asked = ["generate", &folder, "--prompt", text, "--tokens", &count, "--json"];
            let found: serde_json::Value = serde_json::from_str(&self.ok(&asked)).unwrap();
            let ids = |name: &str| -> Vec<u32> {
                found[name]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|id| id.as_u64().unwrap() as u32)
                    .collect()
            };
            let prompt = ids("prompt_tokens");
            let ended = (found["end"] == "end-mark").then(|| tokenizer.token_id("</s>").unwrap());
            let ids: Vec<u32> =
                [prompt.clone(), ids("tokens")].into_iter().flatten().chain(ended).collect();
            serde_json::json!({
                "prompt": text, "prompt_ids": prompt, "logits": trainer.logits(&prompt).unwrap(),
                "text": tokenizer.decode(&ids).unwrap(), "ids": ids,
            })
        });
        serde_json::json!({
            "prompts": prompts, "new_tokens": NEW_TOKENS, "end": tokenizer.token_id("</s>"),
            "begin": tokenizer.token_id("[CLS]"), "vocabulary": tokenizer.vocabulary(),
            "rope_base": spec.model.rope_base,
        })
    }
}
