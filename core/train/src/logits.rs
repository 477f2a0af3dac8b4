//! Logits of one sequence, for comparing a model with what other programs make of its weights. All
//! positions are computed anew at every call: nothing here is meant for speed.

use crate::error::{Result, TrainError};
use crate::ops::values;
use crate::parameters::HEAD;
use crate::replica::Replica;
use crate::trainer::Trainer;

impl Trainer {
    /// Logits after each of `ids`, one row per position.
    ///
    /// # Errors
    /// When there are no ids, more than the model's sequence holds, or one beyond its vocabulary.
    pub fn logits(&self, ids: &[u32]) -> Result<Vec<Vec<f32>>> {
        let (expected, vocabulary) = (self.model.sequence_length as usize, self.model.vocabulary);
        if ids.is_empty() || ids.len() > expected {
            return Err(TrainError::Sequence { index: 0, found: ids.len(), expected });
        }
        if let Some(&id) = ids.iter().find(|&&id| id >= vocabulary) {
            return Err(TrainError::Token { id, vocabulary });
        }
        // What follows the last id never reaches it: attention looks back only.
        let mut padded = ids.to_vec();
        padded.resize(expected, 0);
        let Replica { decoder, .. } = self.first();
        let weights = self.first().weights();
        let hidden_nc = decoder.forward(&weights, &padded);
        let width = self.model.hidden_size as usize;
        let hidden_nc = hidden_nc.slice([0..ids.len(), 0..width]);
        let logits_nv = decoder.ops.linear(&hidden_nc, &weights[HEAD]);
        Ok(values(logits_nv).chunks(vocabulary as usize).map(<[f32]>::to_vec).collect())
    }
}
