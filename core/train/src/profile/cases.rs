//! The operations of one step, each with inputs of its own. Follows what the forward and the backward
//! pass do, so a change there is a change here.
//!
//! N rows, C hidden, K keys' width, F inner, V vocabulary.

use std::hint::black_box;
use std::time::{Duration, Instant};

use burn::tensor::{Tensor, TensorData};
use hm_domain::spec::{ModelSpec, RunSpec};

use super::{Spelling, ids, noise, operations};
use crate::cpu::adamw::Update;
use crate::cpu::attention::Sizes;
use crate::cpu::cross_entropy::{Objective, cross_entropy};
use crate::cpu::matrix::{Matrix, MatrixMut, Onto, multiply};
use crate::cpu::rotary::Turn;
use crate::ops::{Angles, Ops, chunk_rows, composed_cross_entropy};
use crate::parameters;

/// One kind of operation.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// Of one run.
    pub(super) product_flops: u64,
    /// Runs in a step.
    pub(super) times: u32,
    /// Runs it and says how long it took; what it works on is made before.
    pub(super) run: Box<dyn FnMut() -> Duration>,
}

/// What every case is made from.
struct Step {
    ops: Ops,
    spelling: Spelling,
    model: ModelSpec,
    rows: usize,
    z_loss: f32,
}

/// Everything that one step does and that costs, in its order.
pub(super) fn of_step(spec: &RunSpec, spelling: Spelling) -> Vec<Case> {
    let device = burn::tensor::Device::flex();
    let step = Step {
        ops: operations(spelling, &device),
        spelling,
        model: spec.model.clone(),
        rows: (spec.training.sequences_per_step * spec.model.sequence_length) as usize,
        z_loss: spec.training.z_loss as f32,
    };
    let mut cases = vec![step.embedding()];
    cases.extend(step.block_products());
    cases.extend(step.attention());
    cases.extend([step.norms(), step.rotary(), step.gate()]);
    cases.extend(step.head());
    cases.extend(step.update(spec.seed));
    cases
}

/// How long `work` takes, what it gives let go.
fn time<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    drop(black_box(work()));
    start.elapsed()
}

impl Step {
    fn tensor(&self, rows: usize, columns: usize, seed: u64) -> Tensor<2> {
        let values = noise(rows * columns, seed);
        Tensor::from_data(TensorData::new(values, [rows, columns]), self.ops.device())
    }

    /// One of the same values that nobody else holds, as operations in place want it.
    fn own(tensor: &Tensor<2>) -> Tensor<2> {
        Tensor::from_data(tensor.to_data(), &tensor.device())
    }

    fn sizes(&self) -> [usize; 4] {
        let model = &self.model;
        [model.hidden_size, model.kv_heads * model.head_size(), model.ffn_size, model.vocabulary]
            .map(|size| size as usize)
    }

    fn embedding(&self) -> Case {
        let ([c, .., v], ops) = (self.sizes(), self.ops.clone());
        let (weight, dy) = (self.tensor(v, c, 1), self.tensor(self.rows, c, 2));
        let ids = ids(self.rows, self.model.vocabulary, 3);
        let run = move || {
            time(|| ops.embed(&weight, &ids)) + time(|| ops.embedding_gradient(None, &dy, &ids, v))
        };
        Case { name: "embedding", product_flops: 0, times: 1, run: Box::new(run) }
    }

    /// Products with a block's seven weights: outputs, gradients by inputs and by weights.
    fn block_products(&self) -> [Case; 3] {
        let ([c, k, f, _], rows) = (self.sizes(), self.rows);
        // Inputs, outputs, and whether the output and the gradient by the input are added to others.
        let weights = [
            (c, c, false, false),
            (c, k, false, true),
            (c, k, false, true),
            (c, c, true, false),
            (c, f, false, false),
            (c, f, false, true),
            (f, c, true, false),
        ];
        let work: usize =
            weights.iter().map(|(inputs, outputs, ..)| 2 * rows * inputs * outputs).sum();
        let tensors = move |step: &Step| {
            weights.map(|(inputs, outputs, onto_y, onto_dx)| {
                let x = step.tensor(rows, inputs, 1);
                (x, step.tensor(outputs, inputs, 2), step.tensor(rows, outputs, 3), onto_y, onto_dx)
            })
        };
        let (layers, product_flops) = (self.model.layers, work as u64);
        let case = |name, run| Case { name, product_flops, times: layers, run };
        let (ops, all) = (self.ops.clone(), tensors(self));
        let forward = move || {
            all.iter()
                .map(|(x, weight, y, onto, _)| match onto {
                    // The block keeps what is added to, as here.
                    true => time(|| ops.linear_onto(y.clone(), x, weight)),
                    false => time(|| ops.linear(x, weight)),
                })
                .sum()
        };
        let (ops, all) = (self.ops.clone(), tensors(self));
        let by_inputs = move || {
            all.iter()
                .map(|(x, weight, dy, _, onto)| {
                    let onto = onto.then(|| Self::own(x));
                    time(|| ops.input_gradient(onto, dy, weight))
                })
                .sum()
        };
        let (ops, all) = (self.ops.clone(), tensors(self));
        let by_weights = move || {
            all.iter().map(|(x, _, dy, ..)| time(|| ops.weight_gradient(None, dy, x))).sum()
        };
        [
            case("block products, forward", Box::new(forward)),
            case("block products, by input", Box::new(by_inputs)),
            case("block products, by weight", Box::new(by_weights)),
        ]
    }

    fn attention(&self) -> [Case; 2] {
        let ([c, k, ..], model) = (self.sizes(), &self.model);
        let length = model.sequence_length as usize;
        let sizes = Sizes {
            batch: self.rows / length,
            length,
            past: 0,
            heads: model.heads as usize,
            kv_heads: model.kv_heads as usize,
            size: model.head_size() as usize,
        };
        let [q, dout] = [1, 2].map(|seed| self.tensor(self.rows, c, seed));
        let [keys, values] = [3, 4].map(|seed| self.tensor(self.rows, k, seed));
        let attended = self.ops.attention(&q, &keys, &values, sizes);
        let (ops, inputs) = (self.ops.clone(), [q.clone(), keys.clone(), values.clone()]);
        let forward = move || {
            let [q, k, v] = &inputs;
            time(|| ops.attention(q, k, v, sizes))
        };
        let ops = self.ops.clone();
        let gradient =
            move || time(|| ops.attention_gradient(&dout, [&q, &keys, &values], &attended, sizes));
        let case = |name, run| Case { name, product_flops: 0, times: model.layers, run };
        [
            case("attention, forward", Box::new(forward) as Box<dyn FnMut() -> Duration>),
            case("attention, gradient", Box::new(gradient)),
        ]
    }

    /// All norms of a step, forward and gradient: two of a block and the last; heads where they are.
    fn norms(&self) -> Case {
        let ([c, k, ..], model, ops) = (self.sizes(), &self.model, self.ops.clone());
        let layers = model.layers;
        let mut shapes = vec![(self.rows, c, 2 * layers + 1)];
        if model.qk_norm {
            let size = model.head_size() as usize;
            shapes.extend([c, k].map(|width| (self.rows * width / size, size, layers)));
        }
        let epsilon = model.norm_epsilon;
        let all: Vec<_> = shapes
            .into_iter()
            .map(|(rows, width, times)| {
                let [x, dy] = [1, 2].map(|seed| self.tensor(rows, width, seed));
                (x, dy, self.tensor(1, width, 3), times)
            })
            .collect();
        let run = move || {
            all.iter()
                .map(|(x, dy, weight, times)| {
                    let (onto, scale) = (Self::own(dy), ops.norm(x, weight, epsilon).scale_n1);
                    let forward = time(|| ops.norm(x, weight, epsilon));
                    let back = time(|| ops.norm_gradient(onto, dy, x, weight, &scale));
                    (forward + back) * *times
                })
                .sum()
        };
        Case { name: "norms", product_flops: 0, times: 1, run: Box::new(run) }
    }

    fn rotary(&self) -> Case {
        let ([c, k, ..], ops) = (self.sizes(), self.ops.clone());
        let angles = Angles::of(&self.model, &ops);
        let heads = [self.tensor(self.rows, c, 1), self.tensor(self.rows, k, 2)];
        let run = move || {
            [Turn::Forward, Turn::Back]
                .into_iter()
                .flat_map(|turn| heads.iter().map(move |heads| (Self::own(heads), turn)))
                .map(|(heads, turn)| time(|| ops.turn(heads, &angles, turn)))
                .sum()
        };
        Case { name: "RoPE", product_flops: 0, times: self.model.layers, run: Box::new(run) }
    }

    fn gate(&self) -> Case {
        let ([_, _, f, _], ops) = (self.sizes(), self.ops.clone());
        let inputs = [1, 2, 3].map(|seed| self.tensor(self.rows, f, seed));
        let run = move || {
            let [gate, up, dy] = inputs.each_ref().map(Self::own);
            time(|| ops.gate(&gate, &up)) + time(|| ops.gate_gradient(gate, up, dy))
        };
        Case { name: "gate", product_flops: 0, times: self.model.layers, run: Box::new(run) }
    }

    /// The head's products and the cross-entropy between them.
    fn head(&self) -> [Case; 2] {
        let ([c, .., v], rows) = (self.sizes(), self.rows);
        let work = 3 * 2 * (rows * c * v) as u64;
        let targets = ids(rows, self.model.vocabulary, 3);
        let scales = vec![1.0 / rows as f32; rows];
        let chunk = chunk_rows(rows, v);
        let products = self.head_products(chunk);
        let (spelling, z_loss, device) = (self.spelling, self.z_loss, self.ops.device().clone());
        let logits = noise(chunk * v, 4);
        let between = move || {
            let chunks = (0..rows).step_by(chunk).map(|start| start..(start + chunk).min(rows));
            let mut one = |rows: std::ops::Range<usize>| {
                let mut logits = logits[..rows.len() * v].to_vec();
                let (scales, targets) = (&scales[rows.clone()], &targets[rows.clone()]);
                let (objective, count) = (Some(Objective { scales, z_loss }), rows.len());
                if spelling == Spelling::Kernels {
                    let mut losses = vec![0.0; count];
                    return time(|| cross_entropy(&mut logits, targets, objective, &mut losses));
                }
                let logits = Tensor::from_data(TensorData::new(logits, [count, v]), &device);
                let ids: Vec<i32> = targets.iter().map(|&id| id as i32).collect();
                let ids = Tensor::from_data(TensorData::new(ids, [count, 1]), &device);
                time(|| composed_cross_entropy(logits, ids, objective))
            };
            chunks.map(&mut one).sum()
        };
        let between: Box<dyn FnMut() -> Duration> = Box::new(between);
        let case = |name, product_flops, run| Case { name, product_flops, times: 1, run };
        [case("head, products", work, products), case("head, cross-entropy", 0, between)]
    }

    fn head_products(&self, chunk: usize) -> Box<dyn FnMut() -> Duration> {
        let ([c, .., v], rows, ops) = (self.sizes(), self.rows, self.ops.clone());
        let starts = move || (0..rows).step_by(chunk).map(move |start| chunk.min(rows - start));
        if self.spelling == Spelling::Composed {
            let chunks: Vec<_> =
                starts().map(|rows| (self.tensor(rows, c, 1), self.tensor(rows, v, 2))).collect();
            let weight = self.tensor(v, c, 3);
            return Box::new(move || {
                let mut dweight = None;
                let mut one = |(hidden, dlogits): &(Tensor<2>, Tensor<2>)| {
                    let two = time(|| ops.linear(hidden, &weight))
                        + time(|| ops.input_gradient(None, dlogits, &weight));
                    let start = Instant::now();
                    dweight = Some(ops.weight_gradient(dweight.take(), dlogits, hidden));
                    two + start.elapsed()
                };
                chunks.iter().map(&mut one).sum()
            });
        }
        // As the kernel does: into memory that is there already.
        let (hidden, weight) = (noise(chunk * c, 1), noise(v * c, 3));
        let mut logits = noise(chunk * v, 2);
        let (mut dhidden, mut dweight) = (vec![0.0; chunk * c], vec![0.0; v * c]);
        Box::new(move || {
            let mut one = |rows: usize| {
                let part = Matrix::new(&hidden[..rows * c], rows, c);
                let weight = Matrix::new(&weight, v, c);
                let logits = &mut logits[..rows * v];
                let dhidden = &mut dhidden[..rows * c];
                let whole = Instant::now();
                multiply(MatrixMut::new(logits, rows, v), Onto::Nothing, part, weight.t());
                let dlogits = Matrix::new(logits, rows, v);
                multiply(MatrixMut::new(dhidden, rows, c), Onto::Nothing, dlogits, weight);
                multiply(MatrixMut::new(&mut dweight, v, c), Onto::Old, dlogits.t(), part);
                whole.elapsed()
            };
            let sum = starts().map(&mut one).sum();
            black_box((&dhidden, &dweight));
            sum
        })
    }

    /// The global norm and the optimizer, over all parameters.
    fn update(&self, seed: u64) -> [Case; 2] {
        let mut parameters = parameters::initial(&self.model, seed, self.ops.device());
        let gradients: Vec<Tensor<2>> = parameters
            .values()
            .map(|parameter| {
                let [rows, columns] = parameter.value.dims();
                self.tensor(rows, columns, 5)
            })
            .collect();
        let (ops, all) = (self.ops.clone(), gradients.clone());
        let norm = move || time(|| ops.square_sums(&all.iter().collect::<Vec<_>>()));
        let ops = self.ops.clone();
        let by = Update {
            scale: 0.5,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            rate: 1e-4,
            second_correction: 1.0,
            decay: 1.0 - 1e-5,
        };
        let update = move || {
            parameters
                .values_mut()
                .zip(&gradients)
                .map(|(parameter, gradient)| time(|| ops.update(parameter, gradient, by)))
                .sum()
        };
        let case = |name, run| Case { name, product_flops: 0, times: 1, run };
        [
            case("global norm", Box::new(norm) as Box<dyn FnMut() -> Duration>),
            case("AdamW", Box::new(update)),
        ]
    }
}
