//! The head and cross-entropy in chunks of rows, with gradients written by hand: the logits of all
//! positions never exist at once.

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

/// Rows of logits in memory at once.
const CHUNK_ROWS: usize = 256;

/// What the head gives.
pub(crate) struct HeadOutput {
    /// Cross-entropy of each row, in nats.
    pub(crate) losses: Vec<f32>,
    /// Gradients of the weighted loss by hidden states and head weight, if asked for.
    pub(crate) gradients: Option<(Tensor<2>, Tensor<2>)>,
}

/// Losses of `hidden_nc` against `targets`; with `scales`, each row's factor in the objective, also
/// gradients. All off the autodiff graph.
pub(crate) fn head(
    hidden_nc: Tensor<2>,
    weight_vc: Tensor<2>,
    targets: &[u32],
    scales: Option<&[f32]>,
    device: &Device,
) -> HeadOutput {
    let [rows, width] = hidden_nc.dims();
    let mut losses = Vec::with_capacity(rows);
    let mut hidden_gradients = Vec::new();
    let mut weight_gradient: Option<Tensor<2>> = None;
    for start in (0..rows).step_by(CHUNK_ROWS) {
        let end = (start + CHUNK_ROWS).min(rows);
        let hidden = hidden_nc.clone().slice([start..end, 0..width]);
        let ids: Vec<i32> = targets[start..end].iter().map(|&id| id as i32).collect();
        let ids_n1 = Tensor::<2, Int>::from_data(TensorData::new(ids, [end - start, 1]), device);
        let logits_nv = hidden.clone().matmul(weight_vc.clone().transpose());
        let maximum_n1 = logits_nv.clone().max_dim(1);
        let target_n1 = logits_nv.clone().gather(1, ids_n1.clone()) - maximum_n1.clone();
        let exponentials_nv = (logits_nv - maximum_n1).exp();
        let sum_n1 = exponentials_nv.clone().sum_dim(1);
        let loss_n1 = sum_n1.clone().log() - target_n1;
        losses.extend(values(loss_n1));
        let Some(scales) = scales else { continue };
        let scale = scales[start..end].to_vec();
        let scale_n1 = Tensor::<2>::from_data(TensorData::new(scale, [end - start, 1]), device);
        // Softmax minus one at the target, times the row's factor.
        let softmax_nv = exponentials_nv * (scale_n1.clone() / sum_n1);
        let gradient_nv = softmax_nv.scatter(1, ids_n1, scale_n1.neg(), IndexingUpdateOp::Add);
        hidden_gradients.push(gradient_nv.clone().matmul(weight_vc.clone()));
        let part = gradient_nv.transpose().matmul(hidden);
        weight_gradient = Some(match weight_gradient {
            Some(sum) => sum + part,
            None => part,
        });
    }
    let gradients = weight_gradient.map(|weight| (Tensor::cat(hidden_gradients, 0), weight));
    HeadOutput { losses, gradients }
}

/// A tensor's values in row order.
pub(crate) fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("the backend computes in f32")
}
