//! Rotary position embedding.

use burn::tensor::{Device, Tensor, TensorData};
use hm_domain::spec::ModelSpec;

use super::storage::slice_mut;
use super::{Ops, full};
use crate::cpu;
use crate::cpu::rotary::{Tables, Turn};

/// Cosines and sines of every position, `size / 2` of each.
#[derive(Clone)]
pub(crate) struct Angles {
    length: usize,
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
    /// The same for whole heads, [1, T, 1, D], where tensor operations are used.
    on_device: Option<[Tensor<4>; 2]>,
}

impl Angles {
    /// Angles of a model: position times `base^(-2 i / size)`, in f64 (arXiv 2104.09864, section 3.2.2).
    pub(crate) fn of(model: &ModelSpec, ops: &Ops) -> Angles {
        let (length, size) = (model.sequence_length as usize, model.head_size() as usize);
        let half = size / 2;
        let angle = |at: usize| {
            let (position, pair) = (at / half, at % half);
            position as f64 / model.rope_base.powf(2.0 * pair as f64 / size as f64)
        };
        let table = |of: fn(f64) -> f64| -> Vec<f32> {
            (0..length * half).map(|at| of(angle(at)) as f32).collect()
        };
        let (cos, sin) = (table(f64::cos), table(f64::sin));
        let on_device = (!ops.kernels)
            .then(|| [&cos, &sin].map(|table| twice(table, [length, half], ops.device())));
        Angles { length, half, cos, sin, on_device }
    }
}

/// A table of half heads as one of whole heads: both halves turn by the same angle.
fn twice(table: &[f32], [length, half]: [usize; 2], device: &Device) -> Tensor<4> {
    let whole = table.chunks_exact(half).flat_map(|row| [row, row].concat()).collect::<Vec<f32>>();
    Tensor::from_data(TensorData::new(whole, [1, length, 1, 2 * half]), device)
}

impl Ops {
    /// Turns every head of every row of [B * T, heads * D] by its position, or back.
    pub(crate) fn turn(&self, x: Tensor<2>, angles: &Angles, turn: Turn) -> Tensor<2> {
        self.turn_from(0, x, angles, turn)
    }

    /// The same, of rows that are positions `first..` of one sequence.
    pub(crate) fn turn_from(
        &self,
        first: usize,
        x: Tensor<2>,
        angles: &Angles,
        turn: Turn,
    ) -> Tensor<2> {
        let [rows, width] = x.dims();
        let Angles { length, half, cos, sin, on_device } = angles;
        let Some([cos, sin]) = on_device else {
            let mut x = slice_mut(x);
            let tables = Tables { cos, sin, half: *half };
            cpu::rotary::turn(&mut x, width, first, tables, turn);
            return x.tensor();
        };
        // Whole sequences from the first position, or some positions of one.
        let (batch, positions) =
            if rows % length == 0 { (rows / length, *length) } else { (1, rows) };
        let heads = width / (2 * half);
        let shape = [batch, positions, heads, 2 * half];
        let kept_in = x.dtype();
        let x = full(x).reshape(shape);
        let part = |from, to| x.clone().slice([0..batch, 0..positions, 0..heads, from..to]);
        let (left, right) = (part(0, *half), part(*half, 2 * half));
        let turned = match turn {
            Turn::Forward => Tensor::cat(vec![right.neg(), left], 3),
            Turn::Back => Tensor::cat(vec![right, left.neg()], 3),
        };
        let [cos, sin] = [cos, sin]
            .map(|table| table.clone().slice([0..1, first..first + positions, 0..1, 0..2 * half]));
        (x * cos + turned * sin).reshape([rows, width]).cast(kept_in)
    }
}
