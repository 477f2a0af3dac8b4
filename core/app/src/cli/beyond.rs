//! What an audit is told of the world beyond the log.

use std::path::PathBuf;

use clap::Args;

use crate::steer::stretches::Choice;

#[derive(Debug, Args)]
pub(crate) struct BeyondArgs {
    /// Of the data: only this step, and which documents it drew
    #[arg(long, value_name = "N")]
    pub(crate) step: Option<u64>,
    /// Folder of the prepared data, where it does not lie in the data folder
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// Of the training: which stretches between checkpoints (all, random:N, FROM..TO in steps)
    #[arg(long, default_value = "all", value_name = "WHICH")]
    pub(crate) segments: Choice,
    /// Of the training: folder of the weights that the run started from, if it did
    #[arg(long, value_name = "FOLDER")]
    pub(crate) weights: Option<PathBuf>,
    /// Of the training: where to train
    #[arg(long, default_value = "cpu")]
    pub(crate) device: String,
}
