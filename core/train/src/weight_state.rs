//! What the weights are, kind by kind and layer by layer: what the report's monitor watches
//! (arXiv 2408.07410, section 3.2.3). One pass over the parameters, nothing kept.

use std::collections::BTreeMap;

use hm_domain::event::KindState;
use hm_domain::parameter_kind::kinds;

use crate::error::Result;
use crate::trainer::Trainer;

impl Trainer {
    /// Standard deviation about 0 and norm of every kind of parameter, per layer.
    ///
    /// On the CPU the bits depend on the weights alone, not on the number of threads.
    ///
    /// # Errors
    /// When the device fails.
    pub fn weight_state(&self) -> Result<Vec<KindState>> {
        let sums = self.team.filled().on_first(|replica| {
            let values = replica.parameters().values();
            let tensors: Vec<_> = values.map(|parameter| &parameter.value).collect();
            replica.decoder.ops.square_sums(&tensors)
        });
        let sums = sums.map_err(|error| self.failed(&error))?;
        // Paths are in order of text, in which layer 10 comes before layer 2; these are not.
        let of_layers: BTreeMap<_, _> = self
            .parameters()
            .iter()
            .zip(sums)
            .map(|((path, parameter), sum)| {
                (place(path), (sum.sum, parameter.shape.iter().product::<usize>()))
            })
            .collect();
        let state = |(name, _)| {
            let mut kind = KindState::new(name);
            let layers = of_layers.range((name, 0)..=(name, u32::MAX));
            layers.for_each(|(_, &(sum, count))| kind.push(sum, count));
            kind
        };
        Ok(kinds(&self.model).map(state).collect())
    }
}

/// Kind and layer of a path: `("q_proj", 3)` of `model.layers.3.self_attn.q_proj.weight`.
fn place(path: &str) -> (&str, u32) {
    let kind = path.strip_suffix(".weight").unwrap_or(path).rsplit('.').next().unwrap_or(path);
    let rest = path.strip_prefix("model.layers.").unwrap_or_default();
    let layer = rest.split('.').next().and_then(|layer| layer.parse().ok());
    (kind, layer.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hashed::{batch, parameters};
    use crate::ops::{Ops, values};
    use crate::parameters::{of_values, shapes};
    use crate::tests::spec;
    use crate::{DeviceChoice, preset};

    fn trainer(layers: u32, qk_norm: bool) -> Trainer {
        let mut spec = spec();
        (spec.model.layers, spec.model.qk_norm) = (layers, qk_norm);
        Trainer::new(&spec, &DeviceChoice::Cpu).unwrap()
    }

    #[test]
    fn every_parameter_is_in_its_kind_and_layer() {
        // More than ten layers: their order is that of numbers. Every element is 1 + its layer.
        let mut trainer = trainer(12, true);
        for (path, shape) in shapes(&trainer.model) {
            let count = shape.iter().product();
            let value = 1.0 + place(&path).1 as f32;
            let parameter = of_values(shape, vec![value; count], trainer.first().device());
            trainer.parameters_mut().insert(path, parameter);
        }
        let state = trainer.weight_state().unwrap();
        let names: Vec<&str> = state.iter().map(|kind| kind.kind.as_str()).collect();
        let due: Vec<&str> = kinds(&trainer.model).map(|(kind, _)| kind).collect();
        assert_eq!(names, due);
        for (kind, (_, layers)) in state.iter().zip(kinds(&trainer.model)) {
            let due: Vec<f64> = (1..=layers).map(|layer| layer as f64).collect();
            assert_eq!(kind.std, due, "{}", kind.kind);
        }
        // 12 layers of a square matrix of ones times 1 + layer: the norm is that times the side.
        let side = f64::from(trainer.model.hidden_size);
        assert_eq!(state[0].norm[11], 12.0 * side);
        assert_eq!(names.len(), 14);
    }

    #[test]
    fn hand_computed_values_of_one_parameter() {
        let mut trainer = trainer(1, false);
        let path = "model.norm.weight";
        let shape = trainer.parameters()[path].shape.clone();
        // 3 and -4 in turn: the mean square is 12.5, whatever the mean.
        let values = (0..shape[0]).map(|at| if at % 2 == 0 { 3.0 } else { -4.0 }).collect();
        let parameter = of_values(shape.clone(), values, trainer.first().device());
        trainer.parameters_mut().insert(path.to_owned(), parameter);
        let state = trainer.weight_state().unwrap();
        assert_eq!(state.len(), 12);
        let norm = state.iter().find(|kind| kind.kind == "norm").unwrap();
        assert_eq!(norm.std, [12.5f64.sqrt()]);
        assert_eq!(norm.norm, [(12.5 * shape[0] as f64).sqrt()]);
    }

    #[test]
    fn kernels_agree_with_the_composed_spelling_and_with_a_plain_sum() {
        let mut spec = spec();
        spec.model = preset("nano").unwrap();
        let mut trainer = Trainer::new(&spec, &DeviceChoice::Cpu).unwrap();
        *trainer.parameters_mut() =
            parameters(&spec.model, &|norm| if norm { (1.0, 0.1) } else { (0.0, 0.1) });
        let kernels = trainer.weight_state().unwrap();
        let ops = Ops::composed(trainer.first().device());
        let mut tensors = Trainer::computing_with(&spec, vec![ops], "tensors".to_owned()).unwrap();
        *tensors.parameters_mut() = trainer.parameters().clone();
        let composed = tensors.weight_state().unwrap();
        let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-6;
        for (a, b) in kernels.iter().zip(&composed) {
            assert!(a.std.iter().zip(&b.std).all(|(&a, &b)| close(a, b)), "{a:?} {b:?}");
            assert!(a.norm.iter().zip(&b.norm).all(|(&a, &b)| close(a, b)), "{a:?} {b:?}");
        }
        let down = &trainer.parameters()["model.layers.1.mlp.down_proj.weight"].value;
        let plain: f64 = values(down.clone()).into_iter().map(|v| f64::from(v).powi(2)).sum();
        let down = kernels.iter().find(|kind| kind.kind == "down_proj").unwrap();
        assert!(close(down.norm[1], plain.sqrt()), "{} {}", down.norm[1], plain.sqrt());
    }

    #[test]
    fn bits_do_not_depend_on_the_number_of_threads() {
        let mut spec = spec();
        spec.model = preset("nano").unwrap();
        let trainer = Trainer::new(&spec, &DeviceChoice::Cpu).unwrap();
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| trainer.weight_state().unwrap())
        };
        assert_eq!(with(1), with(3));
        // It looks, and changes nothing.
        let before = trainer.validate(&batch(0, &spec.model)).unwrap();
        assert_eq!(with(2), trainer.weight_state().unwrap());
        assert_eq!(trainer.validate(&batch(0, &spec.model)).unwrap(), before);
    }
}
