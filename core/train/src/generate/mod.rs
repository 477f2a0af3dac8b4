//! Text from a model: one token after another, each from the logits of the last.

mod choice;

use hm_domain::spec::ModelSpec;

pub use choice::{BadChoice, Choice, Chooser};

use crate::device::Devices;
use crate::error::{Result, TrainError};
use crate::hugging_face::ExportSource;
use crate::model::{Decoder, Weights};
use crate::ops::{Cache, Ops, values};
use crate::parameters::HEAD;

/// A model that continues one sequence. Keys and values of what it has seen are kept, so a token costs
/// one row of work.
pub struct Generator {
    decoder: Decoder,
    weights: Weights,
    caches: Vec<Cache>,
    positions: usize,
}

impl Generator {
    /// Loads weights, without moments, to the first of `devices`. `progress` hears of weights read and to read.
    ///
    /// # Errors
    /// When they are damaged or not what is on record.
    pub fn open(
        source: &ExportSource,
        devices: &Devices,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Generator> {
        let device = &devices.each[0];
        let weights = source.weights(device, progress)?;
        Ok(Generator::of(source.model(), weights, Ops::of(device)))
    }

    pub(crate) fn of(model: &ModelSpec, weights: Weights, ops: Ops) -> Generator {
        let caches = vec![Cache::default(); model.layers as usize];
        Generator { decoder: Decoder::new(model, ops), weights, caches, positions: 0 }
    }

    /// The model's shape.
    pub fn model(&self) -> &ModelSpec {
        &self.decoder.model
    }

    /// Positions that are still free.
    pub fn room(&self) -> usize {
        self.decoder.model.sequence_length as usize - self.positions
    }

    /// Takes in more of the sequence; gives the logits of what may follow.
    ///
    /// # Errors
    /// When there is no id, no room for them, or one that the embedding has no row for. Nothing was
    /// taken in then.
    pub fn feed(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        let vocabulary = self.decoder.model.vocabulary;
        if let Some(&id) = ids.iter().find(|&&id| id >= vocabulary) {
            return Err(TrainError::Token { id, vocabulary });
        }
        if ids.is_empty() || ids.len() > self.room() {
            let expected = self.decoder.model.sequence_length as usize;
            let found = self.positions + ids.len();
            return Err(TrainError::NoRoom { found, expected });
        }
        self.positions += ids.len();
        let hidden_nc = self.decoder.onward(&self.weights, ids, &mut self.caches);
        let [rows, width] = hidden_nc.dims();
        let last = hidden_nc.slice([rows - 1..rows, 0..width]);
        Ok(values(self.decoder.ops.linear(&last, &self.weights[HEAD])))
    }
}

#[cfg(test)]
mod tests;
