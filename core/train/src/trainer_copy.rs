//! Weights and moments as they were between two steps, saved on another thread while training goes on.
//!
//! On the CPU a copy is handles of the tensors themselves: the next update writes beside those that are
//! not on disk yet, and in place again where they are. From other devices the numbers are fetched.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use hm_domain::checkpoint::CheckpointState;
use hm_domain::spec::ModelSpec;

use crate::checkpoint::{SavedCheckpoint, save};
use crate::error::Result;
use crate::ops::{DeviceFailed, read, shared};
use crate::parameters::{Parameter, Parameters};
use crate::trainer::Trainer;

/// What a checkpoint saves of a trainer, held apart from it.
pub struct TrainerCopy {
    model: ModelSpec,
    parameters: Parameters,
}

impl Trainer {
    /// Its weights and moments as they are now. Costs next to nothing on the CPU, and memory only for what
    /// is trained further before it is saved.
    ///
    /// # Errors
    /// When a device fails.
    pub fn copy(&self) -> Result<TrainerCopy> {
        let parameters = self.team.filled().on_first(|replica| {
            if replica.decoder.ops.are_kernels() {
                return Ok(replica.parameters().clone());
            }
            let copies = replica
                .parameters()
                .iter()
                .map(|(path, parameter)| Ok((path.clone(), fetched(parameter)?)));
            copies.collect()
        });
        let parameters = parameters.map_err(|error: DeviceFailed| self.failed(&error))?;
        Ok(TrainerCopy { model: self.model.clone(), parameters })
    }
}

/// A parameter in this process's memory.
fn fetched(parameter: &Parameter) -> std::result::Result<Parameter, DeviceFailed> {
    let fetch = |tensor: &Tensor<2>| {
        let size: [usize; 2] = tensor.dims();
        Ok(Tensor::from_data(TensorData::new(read(tensor.clone())?, size), &Device::flex()))
    };
    Ok(Parameter {
        shape: parameter.shape.clone(),
        value: fetch(&parameter.value)?,
        first_moment: fetch(&parameter.first_moment)?,
        second_moment: fetch(&parameter.second_moment)?,
    })
}

impl TrainerCopy {
    /// Saves it: see [`Trainer::save`]. What is written is let go at once.
    ///
    /// # Errors
    /// As there.
    pub fn save(self, parent: &Path, state: &CheckpointState) -> Result<SavedCheckpoint> {
        let TrainerCopy { model, parameters } = self;
        save(&model, parent, state, |out| {
            for (path, parameter) in parameters {
                out.parameter(&path, &parameter, &|tensor, out| shared(tensor, out))?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use hm_domain::step::Verdict;

    use crate::tests::{digest, spec, state, step, trainer};

    #[test]
    fn copy_saves_what_was_there_while_training_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut trained = trainer(&spec());
        step(&mut trained, 0, Verdict::Proceed);
        let now = state(&trained, 1);
        let due = trained.save(&folder.path().join("between"), &now).unwrap();
        let copy = trained.copy().unwrap();
        let beside = folder.path().join("beside");
        let thread = std::thread::spawn(move || copy.save(&beside, &now));
        // Whether the thread is before or behind, each step's update leaves the copy alone.
        (1..4).for_each(|number| drop(step(&mut trained, number, Verdict::Proceed)));
        assert_eq!(thread.join().unwrap().unwrap(), due);

        let mut alone = trainer(&spec());
        (0..4).for_each(|number| drop(step(&mut alone, number, Verdict::Proceed)));
        assert_eq!(digest(&trained), digest(&alone), "a copy changes nothing of the training");
    }

    #[test]
    fn copy_of_weights_that_are_updated_before_it_is_saved_is_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let mut trained = trainer(&spec());
        let (before, now) = (digest(&trained), state(&trained, 0));
        let copy = trained.copy().unwrap();
        step(&mut trained, 0, Verdict::Proceed);
        assert_ne!(digest(&trained), before);
        let saved = copy.save(folder.path(), &now).unwrap();
        trained.load(&folder.path().join(&saved.folder), saved.digest).unwrap();
        assert_eq!(digest(&trained), before);
    }
}
