//! The head and cross-entropy in chunks of rows: the logits of all positions never exist at once.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use super::storage::{slice, tensor};
use super::{Ops, full};
use crate::cpu::cross_entropy::{Objective, cross_entropy};
use crate::cpu::matrix::{Matrix, MatrixMut, Onto, multiply};

/// Bytes of logits in memory at once, about: what a processor's caches bear.
const CHUNK_BYTES: usize = 16 << 20;
/// The same on other devices, which need more work at once to be busy.
const DEVICE_CHUNK_BYTES: usize = 512 << 20;
/// Rows that a chunk has at least. Each chunk adds to the whole gradient of the weight, so fewer rows
/// mean more reading and writing of it.
const CHUNK_ROWS_MIN: usize = 512;

/// What the head gives.
pub(crate) struct HeadOutput {
    /// Cross-entropy of each row, in nats, [N, 1]: on the device, so that nobody waits for it yet.
    pub(crate) losses_n1: Tensor<2>,
    /// Gradients of the objective by hidden states and head weight, if asked for.
    pub(crate) gradients: Option<(Tensor<2>, Tensor<2>)>,
}

/// Rows of logits in memory at once, on the CPU.
pub(crate) fn chunk_rows(rows: usize, vocabulary: usize) -> usize {
    rows_of(CHUNK_BYTES, rows, vocabulary)
}

fn rows_of(bytes: usize, rows: usize, vocabulary: usize) -> usize {
    (bytes / (4 * vocabulary)).max(CHUNK_ROWS_MIN).min(rows)
}

impl Ops {
    /// Losses of `hidden_nc` against `targets`. With an objective also its gradients; the weight's is
    /// added to `onto` if there is something.
    pub(crate) fn head(
        &self,
        hidden_nc: &Tensor<2>,
        weight_vc: &Tensor<2>,
        targets: &[u32],
        objective: Option<Objective<'_>>,
        onto: Option<Tensor<2>>,
    ) -> HeadOutput {
        if !self.kernels {
            return self.composed_head(hidden_nc, weight_vc, targets, objective, onto);
        }
        let ([rows, width], [vocabulary, _]) = (hidden_nc.dims(), weight_vc.dims());
        let (hidden, weight) = (slice(hidden_nc), slice(weight_vc));
        let (hidden, weight) =
            (Matrix::new(&hidden, rows, width), Matrix::new(&weight, vocabulary, width));
        let chunk = chunk_rows(rows, vocabulary);
        let mut logits = vec![0.0; chunk * vocabulary];
        let mut losses = vec![0.0; rows];
        let mut dhidden = vec![0.0; if objective.is_some() { rows * width } else { 0 }];
        let mut dweight = onto;
        for start in (0..rows).step_by(chunk) {
            let end = (start + chunk).min(rows);
            let logits = &mut logits[..(end - start) * vocabulary];
            let part = hidden.part(start..end, 0..width);
            multiply(
                MatrixMut::new(logits, end - start, vocabulary),
                Onto::Nothing,
                part,
                weight.t(),
            );
            let part_of = objective.as_ref().map(|objective| objective.rows(start..end));
            cross_entropy(logits, &targets[start..end], part_of, &mut losses[start..end]);
            if objective.is_some() {
                let gradient = Matrix::new(logits, end - start, vocabulary);
                let place = &mut dhidden[start * width..end * width];
                multiply(
                    MatrixMut::new(place, end - start, width),
                    Onto::Nothing,
                    gradient,
                    weight,
                );
                dweight = Some(self.product(dweight, [vocabulary, width], gradient.t(), part));
            }
        }
        let gradients = objective
            .and(dweight)
            .map(|dweight| (tensor(dhidden, [rows, width], &self.device), dweight));
        HeadOutput { losses_n1: tensor(losses, [rows, 1], &self.device), gradients }
    }

    fn composed_head(
        &self,
        hidden_nc: &Tensor<2>,
        weight_vc: &Tensor<2>,
        targets: &[u32],
        objective: Option<Objective<'_>>,
        onto: Option<Tensor<2>>,
    ) -> HeadOutput {
        let ([rows, width], [vocabulary, _]) = (hidden_nc.dims(), weight_vc.dims());
        let (mut losses, mut dhidden, mut dweight) = (Vec::new(), Vec::new(), onto);
        let chunk = rows_of(DEVICE_CHUNK_BYTES, rows, vocabulary);
        for start in (0..rows).step_by(chunk) {
            let end = (start + chunk).min(rows);
            let hidden = hidden_nc.clone().slice([start..end, 0..width]);
            let ids: Vec<i32> = targets[start..end].iter().map(|&id| id as i32).collect();
            let ids_n1 =
                Tensor::<2, Int>::from_data(TensorData::new(ids, [end - start, 1]), &self.device);
            let logits_nv = full(self.matmul(hidden.clone(), weight_vc.clone().transpose()));
            let part_of = objective.as_ref().map(|objective| objective.rows(start..end));
            let (losses_n1, gradient_nv) = composed_cross_entropy(logits_nv, ids_n1, part_of);
            losses.push(losses_n1);
            let Some(gradient_nv) = gradient_nv else { continue };
            let gradient_nv = self.lowered(gradient_nv);
            dhidden.push(full(self.matmul(gradient_nv.clone(), weight_vc.clone())));
            dweight = Some(self.weight_gradient(dweight, &gradient_nv, &hidden));
        }
        let gradients = objective.and(dweight).map(|dweight| (Tensor::cat(dhidden, 0), dweight));
        HeadOutput { losses_n1: Tensor::cat(losses, 0), gradients }
    }
}

/// Losses [N, 1] of logits, and with an objective its gradient by them, by tensor operations.
pub(crate) fn composed_cross_entropy(
    logits_nv: Tensor<2>,
    ids_n1: Tensor<2, Int>,
    objective: Option<Objective<'_>>,
) -> (Tensor<2>, Option<Tensor<2>>) {
    let maximum_n1 = logits_nv.clone().max_dim(1);
    let target_n1 = logits_nv.clone().gather(1, ids_n1.clone()) - maximum_n1.clone();
    let exponentials_nv = (logits_nv - maximum_n1.clone()).exp();
    let sum_n1 = exponentials_nv.clone().sum_dim(1);
    let losses_n1 = sum_n1.clone().log() - target_n1;
    let Some(Objective { scales, z_loss }) = objective else { return (losses_n1, None) };
    let scales = TensorData::new(scales.to_vec(), [scales.len(), 1]);
    let scale_n1 = Tensor::<2>::from_data(scales, &losses_n1.device());
    // Softmax minus one at the target, times the row's factor; z-loss adds to the former.
    let log_z_n1 = sum_n1.clone().log() + maximum_n1;
    let factor_n1 = scale_n1.clone() * (log_z_n1 * (2.0 * z_loss) + 1.0) / sum_n1;
    let softmax_nv = exponentials_nv * factor_n1;
    let gradient_nv = softmax_nv.scatter(1, ids_n1, scale_n1.neg(), IndexingUpdateOp::Add);
    (losses_n1, Some(gradient_nv))
}
