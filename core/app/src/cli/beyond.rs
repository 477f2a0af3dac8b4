//! What an audit is told of the world beyond the log.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use crate::steer::audit::Level;
use crate::steer::stretches::Choice;

#[derive(Debug, Args)]
pub(crate) struct BeyondArgs {
    /// Of the data: only this step, and which documents it drew
    #[arg(long, value_name = "N")]
    pub(crate) step: Option<u64>,
    /// Folder of the prepared data, where it does not lie in the data folder
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// Of the training: which stretches between checkpoints (all, random:N, FROM..TO in steps) [default: all]
    #[arg(long, value_name = "WHICH")]
    pub(crate) segments: Option<Choice>,
    /// Of the training: folder of the weights that the run started from, if it did
    #[arg(long, value_name = "FOLDER")]
    pub(crate) weights: Option<PathBuf>,
    /// Of the training: where to train [default: cpu]
    #[arg(long)]
    pub(crate) device: Option<String>,
}

impl BeyondArgs {
    /// What is asked for though the level does not go so deep: to leave it out in silence would look as if
    /// it had been done.
    pub(crate) fn check(&self, level: Level) -> Result<()> {
        if level < Level::Data && (self.step.is_some() || self.data.is_some()) {
            bail!("--step and --data are of the data: add --level data");
        }
        let is_of_training =
            self.segments.is_some() || self.weights.is_some() || self.device.is_some();
        if level < Level::Training && is_of_training {
            bail!("--segments, --weights and --device are of the training: add --level training");
        }
        Ok(())
    }
}
