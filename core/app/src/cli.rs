//! The command line: what can be typed, and which module does it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::audit::Level;

/// Change your data mixture mid-run, know exactly why it changed, and prove it.
#[derive(Debug, Parser)]
#[command(name = "hm", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Where the private database, prepared data and checkpoints live
    #[arg(long, global = true, env = "HM_DATA_DIR", value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Turn corpora into a tokenizer and token shards
    #[command(after_help = "Example:\n  hm prepare -c examples/two-shapes.yaml")]
    Prepare(RunFileArgs),
    /// Train, or go on with the unfinished run of that name
    #[command(
        after_help = "Examples:\n  hm train -c run.yaml\n  hm train -c run.yaml --set training.steps=300 --new"
    )]
    Train(TrainArgs),
    /// Check a run: its chain, and every decision executed again
    #[command(
        after_help = "Exit code: 0 nothing diverged, 1 something did (or, with --strict, was not provable), 2 the audit could not run.\n\nExample:\n  hm audit my-run --level decisions --json"
    )]
    Audit(AuditArgs),
    /// Build, check, install and list plugins; bind one to a running run
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// List runs, and steer one
    #[command(subcommand)]
    Runs(RunsCommand),
    /// The database: address, shell, projections
    #[command(subcommand)]
    Db(DbCommand),
}

#[derive(Debug, Args)]
pub(crate) struct RunFileArgs {
    /// Run file, YAML or TOML
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Change one value of the run file, as a.b=value; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Print data as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) file: RunFileArgs,
    /// Start another run, even if one of this name is unfinished
    #[arg(long)]
    pub(crate) new: bool,
    /// Print what would be trained, and stop
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Go on although steps trained again differ from the log, and log by how much
    #[arg(long)]
    pub(crate) accept_divergence: bool,
    /// Training device: auto, cpu or cuda
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Run: its name or id
    pub(crate) run: String,
    /// How deep
    #[arg(long, value_enum, default_value = "decisions")]
    pub(crate) level: Level,
    /// Fail also on what nobody can prove
    #[arg(long)]
    pub(crate) strict: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Pack a core WebAssembly module into a component
    #[command(
        after_help = "Example:\n  hm plugin build my_policy.wasm -o my_policy.component.wasm"
    )]
    Build {
        /// Core module, as cargo builds it for wasm32-unknown-unknown
        module: PathBuf,
        /// Where the component goes
        #[arg(short, long)]
        output: PathBuf,
    },
    /// Load a component under all limits and print what it says of itself
    Check {
        /// The component
        component: PathBuf,
    },
    /// Check a component and keep it in the database
    Install {
        /// The component
        component: PathBuf,
    },
    /// List installed plugins
    Ls {
        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Bind an installed plugin to a run, also while it trains
    #[command(
        after_help = "Example:\n  hm plugin bind my-run odm --config '{\"smoothing\": 0.5}' --shadow"
    )]
    Bind {
        /// Run: its name or id
        run: String,
        /// Plugin: digest, name or name@version
        plugin: String,
        /// Configuration as JSON
        #[arg(long, default_value = "{}")]
        config: String,
        /// Only log what it decides
        #[arg(long)]
        shadow: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, newest first
    Ls {
        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Wait at the next step boundary
    Pause {
        /// Run: its name or id
        run: String,
    },
    /// Go on
    Resume {
        /// Run: its name or id
        run: String,
    },
    /// Checkpoint and end the run
    Stop {
        /// Run: its name or id
        run: String,
    },
    /// Set the mixture by hand
    #[command(after_help = "Example:\n  hm runs mixture my-run 0.5 0.3 0.2")]
    Mixture {
        /// Run: its name or id
        run: String,
        /// One share per domain, in the run's order, on any scale
        shares: Vec<f64>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Print the database's address, starting the private one if needed
    Url,
    /// Open psql on it
    Psql {
        /// Passed on to psql
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Recreate a run's projections from its log
    Rebuild {
        /// Run: its name or id
        run: String,
    },
    /// Stop the private database
    Stop,
}
