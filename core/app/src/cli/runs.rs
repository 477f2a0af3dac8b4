//! What can be asked of a run.

use clap::{Args, Subcommand};
use hm_domain::ramp::SEQUENCES_PER_STEP_MAX;

use super::RunFileArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, newest first
    #[command(after_help = "Example:\n  hm runs ls --json")]
    Ls {
        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one run: its state, who trains it, its mixture, plugins, newest checkpoint and what waits
    #[command(after_help = "Examples:\n  hm runs show my-run\n  hm runs show my-run --json")]
    Show {
        /// Run: its name or id
        run: String,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Wait at the next step boundary
    #[command(after_help = "Example:\n  hm runs pause my-run")]
    Pause {
        /// Run: its name or id
        run: String,
        /// Why, for the log
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Go on
    #[command(after_help = "Example:\n  hm runs resume my-run")]
    Resume {
        /// Run: its name or id
        run: String,
        /// Why, for the log
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// End the run, with all its steps in a checkpoint
    #[command(
        after_help = "Its worker saves and ends it. A run that no worker holds is ended on the spot where its newest checkpoint\nholds every step and is whole on this machine; else the next `hm train` catches up with the log, saves and ends it (exit code 3).\n\nExample:\n  hm runs stop my-run --reason \"the mixture was wrong\""
    )]
    Stop {
        /// Run: its name or id
        run: String,
        /// Why, for the log
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// End a run whose worker is dead, without the steps that no checkpoint holds
    #[command(
        after_help = "A run that a worker holds is refused: `hm runs stop` asks that to save and end it.\n\nExample:\n  hm runs end my-run --reason \"its machine is gone\""
    )]
    End {
        /// Run: its name or id
        run: String,
        /// Why, for the log
        #[arg(long)]
        reason: String,
    },
    /// Go back to a checkpoint, as another attempt
    #[command(
        after_help = "Weights, moments, mixture, knobs and plugins are as they were at that checkpoint, whatever was set or bound\nsince; the data drawn since is drawn again, or passed over with --skip-data. Its worker does so at the next\nstep; without one the command waits for the next `hm train`. A run that has ended goes on by `hm runs fork`.\n\nExamples:\n  hm runs rollback my-run --to 2000 --reason \"the loss spiked at 2310\"\n  hm runs rollback my-run --to 2000 --skip-data"
    )]
    Rollback {
        /// Run: its name or id
        run: String,
        /// The checkpoint's step: the next one to train
        #[arg(long, value_name = "STEP")]
        to: u64,
        /// Pass over the data drawn since
        #[arg(long)]
        skip_data: bool,
        /// Why, for the log
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Begin a new run that goes on from a checkpoint of this one
    #[command(
        after_help = "The new run is called as its file says, shares the past up to that step, and keeps a checkpoint of its own.\nSteps, rate, batch, mixture, limits, plugins and data that is added may be others; model, tokenizer, seed and\ndomains may not. A plugin that the file names with the same configuration goes on with its state, any other\nbegins anew. `hm train` then trains it. A run that has ended goes on so.\n\nExamples:\n  hm runs fork my-run --at 2000 -c new.yaml\n  hm runs fork my-run --at 2000 -c run.yaml --set name=longer --set training.steps=5000"
    )]
    Fork(ForkArgs),
    /// Set the mixture by hand
    #[command(
        after_help = "By name, shares are parts of 1 as in a run file: domains that are not named keep among them what is left,\nin the proportions in force now. Without names give one share per domain in the run's order, on any scale.\n\nExamples:\n  hm runs mixture my-run web=0.5 code=0.3\n  hm runs mixture my-run 5 3 2 --reason \"more code\""
    )]
    Mixture {
        /// Run: its name or id
        run: String,
        /// DOMAIN=SHARE for some domains, or one share for each
        #[arg(required = true, allow_negative_numbers = true, value_name = "SHARE")]
        shares: Vec<String>,
        /// Why, for the log
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Set the peak of the learning-rate schedule by hand
    #[command(
        after_help = "The value is a peak, like training.learning_rate in the run file: from the next step on the whole\nschedule is scaled to it, its minimum too. The run file's own value brings its own schedule back.\nAt most ten times the run file's.\n\nExamples:\n  hm runs learning-rate my-run 5e-4\n  hm runs learning-rate my-run 1.5e-4 --reason \"spikes since the new segment\""
    )]
    LearningRate {
        /// Run: its name or id
        run: String,
        /// New peak: a number above 0
        #[arg(value_parser = peak, allow_hyphen_values = true)]
        peak: f64,
        /// Why, for the log
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Set how many sequences a step draws by hand
    #[command(
        after_help = "Every step from the next on draws so many; a batch ramp of the run file is over. The number of steps\nstays, and so does the end of a schedule that counts sequences or tokens. A batch for which the limits of\nthe domains do not last to the end of the run is refused.\n\nExamples:\n  hm runs batch my-run 64\n  hm runs batch my-run 1024 --reason \"noise scale has grown\""
    )]
    Batch {
        /// Run: its name or id
        run: String,
        /// Sequences of a step, from 1 to 65536
        #[arg(value_parser = batch_size, allow_hyphen_values = true)]
        sequences: u32,
        /// Why, for the log
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ForkArgs {
    /// Run to fork: its name or id
    pub(crate) run: String,
    /// The checkpoint's step: the next one to train
    #[arg(long, value_name = "STEP")]
    pub(crate) at: u64,
    #[command(flatten)]
    pub(crate) file: RunFileArgs,
    /// Where to load the weights: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
}

fn peak(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "it is not a number".to_owned())
}

/// Of any size: the run refuses what is too large, and says what is not.
fn batch_size(text: &str) -> Result<u32, String> {
    let must = format!("it must be a whole number from 1 to {SEQUENCES_PER_STEP_MAX}");
    text.parse().map_err(|_| must)
}
