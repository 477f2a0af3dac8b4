//! Rows of the embedding.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use super::Ops;
use super::storage::{slice, slice_mut, tensor};

impl Ops {
    /// The row of each id.
    pub(crate) fn embed(&self, weight_vc: &Tensor<2>, ids: &[u32]) -> Tensor<2> {
        let width = weight_vc.dims()[1];
        if !self.kernels {
            return weight_vc.clone().select(0, self.ids(ids));
        }
        let weight = slice(weight_vc);
        let mut out = Vec::with_capacity(ids.len() * width);
        for &id in ids {
            out.extend_from_slice(&weight[id as usize * width..][..width]);
        }
        tensor(out, [ids.len(), width], &self.device)
    }

    /// The gradient by the embedding, added to `onto` if there is something: each row's to its id's.
    pub(crate) fn embedding_gradient(
        &self,
        onto: Option<Tensor<2>>,
        dy_nc: &Tensor<2>,
        ids: &[u32],
        vocabulary: usize,
    ) -> Tensor<2> {
        let width = dy_nc.dims()[1];
        let onto = onto.unwrap_or_else(|| Tensor::zeros([vocabulary, width], &self.device));
        if !self.kernels {
            return onto.select_assign(0, self.ids(ids), dy_nc.clone(), IndexingUpdateOp::Add);
        }
        let (dy, mut out) = (slice(dy_nc), slice_mut(onto));
        for (&id, dy) in ids.iter().zip(dy.chunks_exact(width)) {
            let row = &mut out[id as usize * width..][..width];
            row.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
        }
        out.tensor()
    }

    fn ids(&self, ids: &[u32]) -> Tensor<1, Int> {
        let values: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
        Tensor::from_data(TensorData::new(values, [ids.len()]), &self.device)
    }
}
