//! The part of a run file that says what is trained: a preset, numbers of one's own, or weights that
//! were imported.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hm_data::{Difference, Tokenizer};
use hm_domain::id::Digest;
use hm_domain::settings::{Faults, shown};
use hm_domain::spec::ModelSpec;
use hm_train::{InitialWeights, PRESETS, plain, preset};
use serde::{Deserialize, Serialize};

/// A preset or imported weights, and what to change in its shape; or a shape without either.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ModelChoice {
    pub(crate) preset: Option<String>,
    /// Folder that `hm import` made: its shape, its weights and, unless the data names another, its
    /// tokenizer.
    pub(crate) from: Option<PathBuf>,
    pub(crate) layers: Option<u32>,
    pub(crate) hidden_size: Option<u32>,
    pub(crate) ffn_size: Option<u32>,
    pub(crate) heads: Option<u32>,
    pub(crate) kv_heads: Option<u32>,
    pub(crate) sequence_length: Option<u32>,
    pub(crate) rope_base: Option<f64>,
    pub(crate) norm_epsilon: Option<f64>,
    pub(crate) norm_init: Option<f64>,
    pub(crate) init_std: Option<f64>,
    pub(crate) scaled_init: Option<bool>,
    pub(crate) qk_norm: Option<bool>,
}

impl ModelChoice {
    /// Notes what is wrong with it whatever the data are.
    pub(crate) fn check(&self, faults: &mut Faults) {
        if let Some(shape) = self.shape(faults) {
            return shape.check(faults);
        }
        let (None, Some(folder)) = (&self.preset, &self.from) else { return };
        match self.initial_weights() {
            Ok(Some(weights)) => {
                self.refuse_contradictions(&weights.model, faults);
                self.over(weights.model).check(faults);
            }
            Ok(None) => {}
            Err(error) => {
                let why = match InitialWeights::are_in(folder) {
                    true => format!(": {}", error.root_cause()),
                    false if folder.is_dir() => String::new(),
                    false => ": there is no such folder".to_owned(),
                };
                let must = format!(
                    "must be a folder that `hm import` made{}{why}",
                    to_be_imported(folder)
                );
                faults.add("model.from", folder.display(), must);
            }
        }
    }

    /// The shape that is asked for, with a vocabulary still to come; nothing where weights bring theirs,
    /// or where it cannot be told what is meant.
    fn shape(&self, faults: &mut Faults) -> Option<ModelSpec> {
        match (&self.preset, &self.from) {
            (Some(name), Some(folder)) => {
                let must = format!(
                    "model.from names weights to start from too, {}: leave one of the two out",
                    folder.display()
                );
                faults.add("model.preset", shown(name), must);
                None
            }
            (Some(name), None) => {
                let found = preset(name);
                if found.is_none() {
                    let must = format!("must be one of {}", PRESETS.join(", "));
                    faults.add("model.preset", shown(name), must);
                }
                found.map(|base| self.over(base))
            }
            (None, Some(_)) => None,
            (None, None) => self.without_preset(faults),
        }
    }

    /// A shape of one's own: three numbers are needed, the rest follows.
    fn without_preset(&self, faults: &mut Faults) -> Option<ModelSpec> {
        if let (Some(layers), Some(hidden_size), Some(heads)) =
            (self.layers, self.hidden_size, self.heads)
        {
            return Some(self.over(plain(layers, hidden_size, heads)));
        }
        let needed =
            [("layers", self.layers), ("hidden_size", self.hidden_size), ("heads", self.heads)];
        let missing = needed.iter().filter(|(_, value)| value.is_none());
        let missing: Vec<String> = missing.map(|(key, _)| format!("model.{key}")).collect();
        let must = format!(
            "must be one of {}, or model.from a folder of `hm import`, or a shape of your own: {} \
             would be needed too",
            PRESETS.join(", "),
            missing.join(", ")
        );
        faults.add("model.preset", "not given", must);
        None
    }

    /// `base` with every key that is given in place of its own.
    fn over(&self, base: ModelSpec) -> ModelSpec {
        ModelSpec {
            layers: self.layers.unwrap_or(base.layers),
            hidden_size: self.hidden_size.unwrap_or(base.hidden_size),
            ffn_size: self.ffn_size.unwrap_or(base.ffn_size),
            heads: self.heads.unwrap_or(base.heads),
            kv_heads: self.kv_heads.unwrap_or(base.kv_heads),
            vocabulary: base.vocabulary,
            sequence_length: self.sequence_length.unwrap_or(base.sequence_length),
            rope_base: self.rope_base.unwrap_or(base.rope_base),
            norm_epsilon: self.norm_epsilon.unwrap_or(base.norm_epsilon),
            norm_init: self.norm_init.unwrap_or(base.norm_init),
            init_std: self.init_std.unwrap_or(base.init_std),
            scaled_init: self.scaled_init.unwrap_or(base.scaled_init),
            qk_norm: self.qk_norm.unwrap_or(base.qk_norm),
        }
    }

    /// The weights to start from, if any.
    pub(crate) fn initial_weights(&self) -> Result<Option<InitialWeights>> {
        let Some(folder) = &self.from else { return Ok(None) };
        let context = || {
            let how = to_be_imported(folder);
            format!("model.from {}: no weights of `hm import`{how}", folder.display())
        };
        InitialWeights::read(folder).map(Some).with_context(context)
    }

    /// Notes a tokenizer under which the weights to start from would mean something else.
    pub(crate) fn check_tokenizer(&self, named: Option<&Path>, faults: &mut Faults) {
        let Ok(Some(weights)) = self.initial_weights() else { return };
        let (Some(named), Some(theirs)) = (named, weights.tokenizer()) else { return };
        // What cannot be read is refused when it is used; weights may have come with one that cannot.
        let (Ok((read, digest)), Ok((own, own_digest))) =
            (Tokenizer::read(named), Tokenizer::read(&theirs))
        else {
            return;
        };
        if digest == own_digest {
            return;
        }
        let Some(Difference { ids, differ, first: (id, token, meant) }) = read.differs_from(&own)
        else {
            return;
        };
        let must = format!(
            "the weights of model.from were trained with another, {}: {differ} of the {ids} ids that both have mean another token (id {id} is {} here and {} there); leave it out or name that one",
            theirs.display(),
            shown(&token),
            shown(&meant)
        );
        faults.add("data.tokenizer", named.display(), must);
    }

    /// Shape of the model under a tokenizer of so many ids, and the digest of the weights it starts
    /// from, if any.
    pub(crate) fn resolve(&self, vocabulary: u32) -> Result<(ModelSpec, Option<Digest>)> {
        let mut faults = Faults::default();
        self.check(&mut faults);
        faults.into_result()?;
        let Some(weights) = self.initial_weights()? else {
            let shape = self.shape(&mut Faults::default());
            let shape = shape.context("a model without faults has a shape")?;
            let model = ModelSpec { vocabulary, ..shape };
            model.checked()?;
            return Ok((model, None));
        };
        let rows = weights.model.vocabulary;
        if vocabulary > rows {
            bail!(
                "the tokenizer has {vocabulary} ids, the weights of model.from {rows} rows for them"
            );
        }
        Ok((self.over(weights.model), Some(weights.digest)))
    }

    /// Notes every key that says other than the weights do.
    fn refuse_contradictions(&self, weights: &ModelSpec, faults: &mut Faults) {
        for (key, asked, theirs) in [
            ("layers", self.layers, weights.layers),
            ("hidden_size", self.hidden_size, weights.hidden_size),
            ("ffn_size", self.ffn_size, weights.ffn_size),
            ("heads", self.heads, weights.heads),
            ("kv_heads", self.kv_heads, weights.kv_heads),
        ] {
            let asked = asked.unwrap_or(theirs);
            let must = format!("the weights of model.from have {theirs}: leave it out");
            faults.require(asked == theirs, format!("model.{key}"), asked, must);
        }
        let (asked, theirs) = (self.norm_epsilon, weights.norm_epsilon);
        let asked = asked.unwrap_or(theirs);
        let must = format!("the weights of model.from were made with {theirs}: leave it out");
        faults.require(asked == theirs, "model.norm_epsilon", asked, must);
        if self.qk_norm == Some(true) {
            let must = "the weights of model.from have no norms for heads: leave it out";
            faults.add("model.qk_norm", true, must);
        }
        self.refuse_first_values(faults);
        // A larger base stretches what the weights know over more positions (2309.16039, section 2).
        let stretched = self.rope_base.is_some_and(|base| base > weights.rope_base);
        let (longest, base) = (weights.sequence_length, weights.rope_base);
        if let Some(length) = self.sequence_length.filter(|&length| length > longest && !stretched)
        {
            let must = format!(
                "the weights of model.from have seen {longest} at most: shorten it, or set \
                 model.rope_base above their {base}"
            );
            faults.add("model.sequence_length", length, must);
        }
    }

    /// Weights that are there are not drawn.
    fn refuse_first_values(&self, faults: &mut Faults) {
        let drawn = [
            ("norm_init", self.norm_init.map(|value| value.to_string())),
            ("init_std", self.init_std.map(|value| value.to_string())),
            ("scaled_init", self.scaled_init.map(|value| value.to_string())),
        ];
        for (key, value) in drawn {
            let Some(value) = value else { continue };
            let must = "model.from brings all weights, none are drawn: leave it out";
            faults.add(format!("model.{key}"), value, must);
        }
    }
}

/// What to do with a folder that holds weights as Hugging Face keeps them.
pub(crate) fn to_be_imported(folder: &Path) -> String {
    if folder.join("config.json").is_file() {
        let folder = folder.display();
        format!(", but of Hugging Face: `hm import {folder} --output my-weights` makes one of it")
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(text: &str) -> ModelChoice {
        serde_json::from_str(text).unwrap()
    }

    fn faults(text: &str) -> Vec<String> {
        let mut faults = Faults::default();
        choice(text).check(&mut faults);
        faults.all().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_folder_of_hugging_face_is_told_to_be_imported_first() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().to_str().unwrap().to_owned();
        let from = serde_json::json!({"from": folder}).to_string();
        assert!(!faults(&from)[0].contains("hm import /"));
        std::fs::write(Path::new(&folder).join("config.json"), "{}").unwrap();
        let sentence =
            format!("made, but of Hugging Face: `hm import {folder} --output my-weights`");
        assert!(faults(&from)[0].contains(&sentence), "{:?}", faults(&from));
        let error = format!("{:#}", choice(&from).initial_weights().err().unwrap());
        assert!(error.contains(&format!("`hm import {folder} --output my-weights` makes one")));
    }

    #[test]
    fn every_key_goes_over_its_preset() {
        let text = r#"{"preset": "nano", "layers": 3, "hidden_size": 96, "ffn_size": 200, "heads": 6,
            "kv_heads": 3, "sequence_length": 32, "rope_base": 5e5, "norm_epsilon": 1e-6,
            "norm_init": 0.3, "init_std": 0.01, "scaled_init": false, "qk_norm": true}"#;
        let due = ModelSpec {
            layers: 3,
            hidden_size: 96,
            ffn_size: 200,
            heads: 6,
            kv_heads: 3,
            vocabulary: 300,
            sequence_length: 32,
            rope_base: 5e5,
            norm_epsilon: 1e-6,
            norm_init: 0.3,
            init_std: 0.01,
            scaled_init: false,
            qk_norm: true,
        };
        assert_eq!(choice(text).resolve(300).unwrap(), (due, None));
        let plain = ModelSpec { vocabulary: 300, ..preset("350m").unwrap() };
        assert_eq!(choice(r#"{"preset": "350m"}"#).resolve(300).unwrap(), (plain, None));
    }

    #[test]
    fn shape_without_preset_needs_three_numbers() {
        let (model, _) =
            choice(r#"{"layers": 6, "hidden_size": 384, "heads": 6}"#).resolve(5000).unwrap();
        assert_eq!(model, ModelSpec { vocabulary: 5000, ..plain(6, 384, 6) });
        assert_eq!((model.ffn_size, model.kv_heads, model.sequence_length), (1024, 6, 2048));
        let found = faults(r#"{"layers": 6, "heads": 6}"#);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("model.preset is not given: must be one of nano,"),
            "{found:?}"
        );
        assert!(found[0].contains("model.hidden_size would be needed too"), "{found:?}");
    }

    #[test]
    fn all_faults_are_told_at_once_with_key_value_and_bound() {
        let found = faults(r#"{"preset": "nano", "layers": 0, "heads": 5, "rope_base": -1}"#);
        assert_eq!(
            found,
            [
                "model.layers is 0: must be at least 1 and at most 4096",
                "model.rope_base is -1: must be at least 1 and at most 1000000000000",
                "model.heads is 5: must divide model.hidden_size 64",
                "model.kv_heads is 2: must divide model.heads 5",
            ]
        );
        assert!(
            faults(r#"{"preset": "7B"}"#)[0].starts_with(r#"model.preset is "7B": must be one of"#)
        );
        let found = faults(r#"{"preset": "nano", "from": "w"}"#);
        assert!(found[0].ends_with("leave one of the two out"), "{found:?}");
        let found = faults(r#"{"from": "nowhere"}"#);
        assert!(found[0].starts_with("model.from is nowhere: must be a folder"), "{found:?}");
    }

    #[test]
    fn keys_beside_weights_may_not_contradict_them() {
        let weights = ModelSpec { scaled_init: false, ..preset("nano").unwrap() };
        let found = |text: &str| {
            let mut faults = Faults::default();
            choice(text).refuse_contradictions(&weights, &mut faults);
            faults.all().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let fits = r#"{"layers": 2, "norm_epsilon": 1e-5, "qk_norm": false, "sequence_length": 32,
            "rope_base": 2e4}"#;
        assert_eq!(found(fits), [""; 0]);
        assert_eq!(found(r#"{"sequence_length": 128, "rope_base": 5e5}"#), [""; 0]);
        assert_eq!(
            found(r#"{"layers": 3, "init_std": 0.1, "sequence_length": 65}"#),
            [
                "model.layers is 3: the weights of model.from have 2: leave it out",
                "model.init_std is 0.1: model.from brings all weights, none are drawn: leave it out",
                "model.sequence_length is 65: the weights of model.from have seen 64 at most: shorten \
                 it, or set model.rope_base above their 10000",
            ]
        );
    }

    #[test]
    fn a_tokenizer_under_which_imported_weights_mean_something_else_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let trained =
            |text: &str| Tokenizer::train(&[text.repeat(50)], 300).unwrap().to_json().unwrap();
        let own = trained("the weights have seen this text ");
        let model = ModelSpec { vocabulary: 400, ..preset("nano").unwrap() };
        write(
            "weights.json",
            serde_json::json!({"model": model, "digest": Digest::ZERO}).to_string(),
        );
        let theirs = write("tokenizer.json", own.clone());
        let copy = write("copy.json", own.clone() + "\n");
        let renamed = write("renamed.json", own.replace("[gMASK]", "<|user|>"));
        let other = write("other.json", trained("quite another text has made it "));
        let from = ModelChoice { from: Some(folder.path().to_owned()), ..ModelChoice::default() };
        let faults = |named: &Path| {
            let mut faults = Faults::default();
            from.check_tokenizer(Some(named), &mut faults);
            faults.all().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for same in [&theirs, &copy, &renamed] {
            assert_eq!(faults(same), [""; 0]);
        }
        let found = faults(&other);
        let start = format!(
            "data.tokenizer is {}: the weights of model.from were trained with another, {}: ",
            other.display(),
            theirs.display()
        );
        assert!(found.len() == 1 && found[0].starts_with(&start), "{found:?}");
        assert!(found[0].ends_with("leave it out or name that one"), "{found:?}");
    }
}
