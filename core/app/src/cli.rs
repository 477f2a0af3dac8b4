//! The command line: what can be typed, and which module does it.

mod beyond;
mod plugins;
mod prove;
mod runs;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::TypedValueParser as _;
use clap::{Args, Parser, Subcommand};
use hm_domain::id::RunId;

pub(crate) use self::plugins::PluginCommand;
pub(crate) use self::prove::{ArchiveArgs, HeldArgs, KeyCommand, ProveArgs};
pub(crate) use self::runs::{ForkArgs, RunsCommand};
use crate::steer::audit::Level;
use crate::weights::chat::Template;

/// Change your data mixture mid-run, know exactly why it changed, and prove it.
#[derive(Debug, Parser)]
#[command(name = "hm", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Where the private database, prepared data and checkpoints live
    // Empty is not set, as in a shell's `HM_DATA_DIR= hm`.
    #[arg(
        long,
        global = true,
        env = "HM_DATA_DIR",
        value_name = "FOLDER",
        value_parser = clap::builder::OsStringValueParser::new().map(PathBuf::from)
    )]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train on text of this machine, show the page, audit the result
    #[command(
        after_help = "On a terminal the page stays until Ctrl-C. Exit code: that of the audit, 130 when interrupted.\n\nExample:\n  hm demo --steps 100"
    )]
    Demo(DemoArgs),
    /// Turn corpora into a tokenizer and token shards
    #[command(
        after_help = "Examples:\n  hm prepare -c examples/jsonl-folder.yaml\n  hm prepare -c run.yaml --verify"
    )]
    Prepare(PrepareArgs),
    /// Train, or go on with the unfinished run of that name
    #[command(
        after_help = "A run that is interrupted, killed or cannot be saved goes on with the same command. One that has ended\ndoes not: --new starts another of its name. Of several runs of a name it is the newest, or the one in --run.\n\nExit code: 0 all steps are done, or stopped by command; 1 the run halted or failed; 2 an error; 3 unfinished, since\nits last checkpoint could not be saved: the same command catches up and saves; 130 interrupted.\n\nExamples:\n  hm train -c run.yaml\n  hm train -c run.yaml --set training.steps=300 --new"
    )]
    Train(TrainArgs),
    /// Read a Hugging Face folder of a Llama or Aquila model into weights that a run starts from
    #[command(
        after_help = "A run file starts from them with: model: { from: FOLDER }\n\nExample:\n  hm import Aquila2-7B --output aquila2-7b-weights"
    )]
    Import(ImportArgs),
    /// Write a run's model as a Hugging Face folder, which transformers loads as it is
    #[command(
        after_help = "Examples:\n  hm export my-run --output my-model\n  hm export my-run --output my-model-bf16 --dtype bf16 --shard-bytes 2000000000"
    )]
    Export(ExportArgs),
    /// Go on with a text, token by token
    #[command(
        after_help = "Without --temperature the likeliest token is taken each time. The text ends at the end mark, after --tokens tokens, where the model's sequence is full, or at Ctrl-C.\n\nExamples:\n  hm generate my-run --prompt 'The data mixture'\n  hm generate weights/ --chat aquila-v1 --prompt 'What is a segment?' --temperature 0.9 --top-p 0.95 --seed 7\n  echo 'def main():' | hm generate my-run"
    )]
    Generate(GenerateArgs),
    /// Web page and API: watch runs, upload plugins
    #[command(
        after_help = "Whoever reaches the port can read; writing wants the token in the printed address. Requests are answered that\ncome by a name of this machine's loopback, on any port (so `ssh -L 8080:localhost:7400` works), by the\naddress in --listen, or by a --public-url. GET /healthz says whether the server lives, GET /readyz whether the\ndatabase answers too.\n\nExamples:\n  hm serve\n  HM_TOKEN=a-secret-of-mine-1234 hm serve --listen 127.0.0.1:8080\n  hm serve --listen 0.0.0.0:7400 --public-url https://runs.example.org"
    )]
    Serve(ServeArgs),
    /// Check a run: its chain, every event made again, every plugin call executed again
    #[command(
        after_help = "Exit code: 0 nothing diverged, 1 something did (or, with --strict, was not provable), 2 the audit could not run,\nsince bytes that the log names are missing or are others.\n\nExample:\n  hm audit my-run --level decisions --json\n  hm audit my-run-archive --head 143:HASH"
    )]
    Audit(AuditArgs),
    /// Build, check, install and list plugins; bind one to a running run, or release it
    #[command(
        subcommand,
        after_help = "Examples:\n  hm plugin install my_policy.component.wasm\n  hm plugin bind my-run my-policy --shadow"
    )]
    Plugin(PluginCommand),
    /// List runs, and steer one
    #[command(
        subcommand,
        after_help = "Exit code: 0 the run obeyed, 1 it refused, 2 it could not be asked, 3 nobody has answered yet: the command waits\nin the run's inbox for the worker's next step, or for the next `hm train` where no worker holds the run. `stop`\nends such a run on the spot where that loses no step.\n\nExamples:\n  hm runs ls\n  hm runs pause my-run --reason \"the disk is filling up\""
    )]
    Runs(RunsCommand),
    /// The key that this machine signs with
    #[command(
        subcommand,
        after_help = "The key is made at first use. Whoever is to trust what it signs takes its public half from here, not from\nwhat is signed.\n\nExamples:\n  hm key show\n  hm key verify statement.json --key PUBLIC"
    )]
    Key(KeyCommand),
    /// The database: address, shell, projections
    #[command(subcommand, after_help = "Examples:\n  hm db psql\n  hm db stop")]
    Db(DbCommand),
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Steps to train
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) steps: u64,
    /// Model shape: nano, tiny or small
    #[arg(long, default_value = "tiny")]
    pub(crate) preset: String,
    /// Where the page listens; a free port unless named
    #[arg(long, default_value = "127.0.0.1:0", value_parser = address, value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// Folder with odm.component.wasm and outlier.component.wasm, if they are not installed
    #[arg(long, value_name = "FOLDER")]
    pub(crate) plugins: Option<PathBuf>,
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
pub(crate) struct PrepareArgs {
    #[command(flatten)]
    pub(crate) file: RunFileArgs,
    /// Read every shard again and hold it against its digest, also one that has not changed
    #[arg(long)]
    pub(crate) verify: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) file: RunFileArgs,
    /// Start another run from step 0, even if one of this name is unfinished or has ended
    #[arg(long)]
    pub(crate) new: bool,
    /// Go on with this one of several runs of the name
    #[arg(long, value_name = "ID", conflicts_with = "new", value_parser = run_id)]
    pub(crate) run: Option<RunId>,
    /// Print what would be trained and what it would cost, and stop
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Go on although steps trained again differ from the log, and log by how much
    #[arg(long)]
    pub(crate) accept_divergence: bool,
    /// Training device: auto, cpu, cuda, cuda:1, or several that share each step: cuda:0,1, cuda:all
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
    /// Peak of one device in TFLOP/s, for the MFU of a device whose data sheet hm does not know
    #[arg(long, value_name = "TFLOPS", value_parser = positive)]
    pub(crate) peak_tflops: Option<f64>,
}

/// Where to listen, in numbers or on this machine by name.
fn address(text: &str) -> Result<SocketAddr, String> {
    let numbers = match text.split_once(':') {
        Some(("localhost", port)) => format!("127.0.0.1:{port}"),
        _ => text.to_owned(),
    };
    numbers.parse().map_err(|_| {
        "it must be an address and a port, such as 127.0.0.1:7400, localhost:7400, 0.0.0.0:7400 or \
         [::1]:7400"
            .to_owned()
    })
}

fn run_id(text: &str) -> Result<RunId, String> {
    text.parse().map_err(|_| "it must be the whole id of a run, as `hm runs ls` has it".to_owned())
}

fn positive(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err("must be above 0".to_owned()) }
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Folder with config.json and safetensors
    pub(crate) folder: PathBuf,
    /// New folder for the weights
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
    /// Print what was imported as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Run, by name or id: its newest checkpoint; or the folder of a checkpoint or of imported weights
    #[arg(value_name = "RUN|FOLDER")]
    pub(crate) source: String,
    /// New folder for the model
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
    /// What a weight becomes: f32, bf16 or f16
    #[arg(long, default_value = "f32")]
    pub(crate) dtype: String,
    /// Most bytes of one file of weights
    #[arg(long, default_value_t = 5_000_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) shard_bytes: u64,
    /// The run's tokenizer.json, where its prepared data is no longer here
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// Print what was exported as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// Run, by name or id: its newest checkpoint; or the folder of a checkpoint or of imported weights
    #[arg(value_name = "RUN|FOLDER")]
    pub(crate) source: String,
    /// Text to go on with; read from standard input unless given
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// Ask it as a question in the words that a chat model was tuned with
    #[arg(long, value_enum, value_name = "TEMPLATE")]
    pub(crate) chat: Option<Template>,
    /// Most tokens to add
    #[arg(short = 'n', long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tokens: u32,
    /// Spread of the choice; 0 takes the likeliest token
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub(crate) temperature: f64,
    /// Choose among so many of the likeliest tokens; 0 for all
    #[arg(long, default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Choose among the likeliest tokens that have this share together
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    pub(crate) top_p: f64,
    /// Of the choice: equal seeds give equal text
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Device: auto, cpu or cuda
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
    /// The run's tokenizer.json, where its prepared data is no longer here
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// Print tokens and speed as JSON at the end, and nothing before
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = hm_serve::DEFAULT_ADDRESS, value_parser = address, value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// Token that writing wants; made at random unless given. What is typed here every user of the machine
    /// can see, unlike what `HM_TOKEN` holds: `HM_TOKEN=$(cat token) hm serve`
    #[arg(long, env = "HM_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Address by which browsers reach the page, such as that of a proxy before it; may be repeated
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Vec<hm_serve::PublicUrl>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Run: its name or id; the folder of an archive, which needs no database; or the proof of one event
    #[arg(value_name = "RUN|FOLDER|FILE")]
    pub(crate) run: String,
    /// How deep
    #[arg(long, value_enum, default_value = "decisions")]
    pub(crate) level: Level,
    /// Fail also on what nobody can prove
    #[arg(long)]
    pub(crate) strict: bool,
    #[command(flatten)]
    pub(crate) held: HeldArgs,
    /// Write what was found into a file, as a statement (in-toto) signed with this machine's key
    #[arg(long, value_name = "FILE")]
    pub(crate) attest: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) beyond: beyond::BeyondArgs,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Print the database's address, starting the private one if needed
    #[command(after_help = "Example:\n  DATABASE_URL=$(hm db url) my-script")]
    Url,
    /// Open psql on it
    #[command(after_help = "Example:\n  hm db psql -- -c 'select name, state from run'")]
    Psql {
        /// Passed on to psql
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Bring the tables up to date, as their owner; end workers of an older hm first
    #[command(after_help = "Example:\n  DATABASE_URL=postgres://owner@host/log hm db migrate")]
    Migrate,
    /// Print the SQL that makes a role that trains, which cannot change the past, and one that reads
    #[command(
        after_help = "Example:\n  hm db roles | psql postgres://owner@host/log\n  psql postgres://owner@host/log -c 'grant heurimentor_worker to trainer'"
    )]
    Roles,
    /// Make a run's projections what its log gives, while it goes on
    #[command(after_help = "Example:\n  hm db rebuild my-run --check")]
    Rebuild {
        /// Run: its name or id
        run: String,
        /// Only compare, name each row that differs, and exit with 1 if one does
        #[arg(long)]
        check: bool,
    },
    /// Write a run into a folder that is all one needs to audit or restore it
    #[command(
        after_help = "The folder has its name only when all of it was read back. With --drop, a folder that is there already\nserves if it holds this very log.\n\nExamples:\n  hm db archive my-run --output my-run-archive\n  hm audit my-run-archive\n  hm db archive my-run --drop"
    )]
    Archive(ArchiveArgs),
    /// Bring a run back from its archive
    #[command(after_help = "Example:\n  hm db restore my-run-archive")]
    Restore {
        /// The archive
        folder: PathBuf,
    },
    /// Write the proof that one event is in a run's log, which is checked without the rest
    #[command(
        after_help = "Examples:\n  hm db prove my-run 60 --output decision.proof\n  hm audit decision.proof --key PUBLIC"
    )]
    Prove(ProveArgs),
    /// Stop the private database
    #[command(
        after_help = "Runs that are trained on it are named: they wait for some minutes. Any other command starts it again.\n\nExample:\n  hm db stop"
    )]
    Stop,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn address_to_listen_on_is_taken_by_name_or_refused_with_an_example() {
        let here: SocketAddr = "127.0.0.1:7514".parse().unwrap();
        assert_eq!(address("localhost:7514"), Ok(here));
        assert_eq!(address("127.0.0.1:7514"), Ok(here));
        assert!(address("[::1]:7514").is_ok());
        for bad in ["7511", "localhost", "localhost:port", ":7511", "example.org:80"] {
            assert!(address(bad).unwrap_err().contains("such as 127.0.0.1:7400"), "{bad}");
        }
    }

    #[test]
    fn run_to_go_on_with_is_named_by_its_whole_id() {
        for bad in ["twin", "019ac2f1", ""] {
            assert!(run_id(bad).unwrap_err().contains("the whole id of a run"), "{bad}");
        }
        assert!(run_id(&RunId::SYSTEM.to_string()).is_ok());
    }

    fn without_example(command: &clap::Command, path: &str) -> Vec<String> {
        let path = format!("{path} {}", command.get_name());
        let words = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let mut all: Vec<String> =
            command.get_subcommands().flat_map(|inner| without_example(inner, &path)).collect();
        if !words.contains("Example") {
            all.push(path);
        }
        all
    }

    #[test]
    fn every_command_shows_an_example() {
        let whole = Cli::command();
        let missing: Vec<String> =
            whole.get_subcommands().flat_map(|command| without_example(command, "hm")).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
