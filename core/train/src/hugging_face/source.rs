//! What is exported: the weights of a checkpoint or imported ones, read tensor by tensor while what their
//! digest covers is checked against the record.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use hm_domain::id::Digest;
use hm_domain::spec::ModelSpec;

use super::element::f32_of;
use crate::checkpoint_folder::{MODEL_FILE, MOMENTS, MOMENTS_FILE, STATE_FILE};
use crate::content_digest::{CHECKPOINT, ContentDigest, INITIAL_WEIGHTS};
use crate::error::{Result, TrainError, at};
use crate::initial_weights::InitialWeights;
use crate::model::Weights;
use crate::parameters::{self, rows_and_columns};
use crate::tensor_file::{Planned, TensorFile};

/// What to export.
#[derive(Clone, Debug)]
pub enum ExportSource {
    /// A checkpoint that an event names.
    Checkpoint {
        /// Its folder.
        folder: PathBuf,
        /// Shape of its model.
        model: ModelSpec,
        /// Its digest on record.
        digest: Digest,
    },
    /// What an import made.
    Initial(InitialWeights),
}

impl ExportSource {
    pub(crate) fn model(&self) -> &ModelSpec {
        match self {
            ExportSource::Checkpoint { model, .. } => model,
            ExportSource::Initial(weights) => &weights.model,
        }
    }

    /// All weights on a device, checked against the record; `progress` hears of weights read and to read.
    pub(crate) fn weights(
        &self,
        device: &Device,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Weights> {
        let (mut reader, mut weights) = (self.open()?, Weights::new());
        let (mut done, total) = (0, self.model().parameter_count());
        for (name, shape) in parameters::shapes(self.model()) {
            let mut values = Vec::with_capacity(shape.iter().product());
            let tensor = Planned { name, shape };
            reader.copy(&tensor, &mut |numbers| {
                values.extend_from_slice(numbers);
                done += numbers.len() as u64;
                progress(done, total);
                Ok(())
            })?;
            let size = rows_and_columns(&tensor.shape);
            weights.insert(tensor.name, Tensor::from_data(TensorData::new(values, size), device));
        }
        reader.finish()?;
        Ok(weights)
    }

    /// Where the weights lie.
    pub fn folder(&self) -> &Path {
        match self {
            ExportSource::Checkpoint { folder, .. } => folder,
            ExportSource::Initial(weights) => &weights.folder,
        }
    }

    fn digest(&self) -> Digest {
        match self {
            ExportSource::Checkpoint { digest, .. } => *digest,
            ExportSource::Initial(weights) => weights.digest,
        }
    }

    /// Opens its files, which must hold this model's tensors and no others.
    pub(super) fn open(&self) -> Result<Reader<'_>> {
        let count = parameters::shapes(self.model()).len();
        let open = |name: &str, count: usize| -> Result<TensorFile> {
            let file = TensorFile::open(&self.folder().join(name))?;
            file.expect_count(count)?;
            Ok(file)
        };
        let values = open(MODEL_FILE, count)?;
        let (moments, kind) = match self {
            ExportSource::Initial(_) => (None, INITIAL_WEIGHTS),
            ExportSource::Checkpoint { .. } => (Some(open(MOMENTS_FILE, 2 * count)?), CHECKPOINT),
        };
        Ok(Reader { source: self, values, moments, digest: ContentDigest::new(kind) })
    }
}

/// The source's weights, in order of path.
pub(super) struct Reader<'a> {
    source: &'a ExportSource,
    values: TensorFile,
    moments: Option<TensorFile>,
    digest: ContentDigest,
}

impl Reader<'_> {
    /// Hands the numbers of the next tensor to `each`.
    pub(super) fn copy(
        &mut self,
        tensor: &Planned,
        each: &mut dyn FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        let Planned { name, shape } = tensor;
        let digest = &mut self.digest;
        digest.parameter(name, shape);
        self.values.pieces(self.values.place_of_f32(name, shape)?, &mut |piece| {
            digest.bytes(piece);
            each(&f32_of(piece))
        })?;
        let moments = self.moments.iter().flat_map(|file| MOMENTS.map(|ending| (file, ending)));
        for (moments, ending) in moments {
            let place = moments.place_of_f32(&format!("{name}{ending}"), shape)?;
            moments.pieces(place, &mut |piece| {
                digest.bytes(piece);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Compares all that was read with the record.
    pub(super) fn finish(mut self) -> Result<()> {
        let folder = self.source.folder().to_owned();
        if self.moments.is_some() {
            let path = folder.join(STATE_FILE);
            self.digest.bytes(&std::fs::read(&path).map_err(at(&path))?);
        }
        let (found, expected) = (self.digest.finish(), self.source.digest());
        if found != expected {
            return Err(TrainError::Digest { folder, found, expected });
        }
        Ok(())
    }
}
