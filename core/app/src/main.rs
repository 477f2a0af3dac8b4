//! `hm`: the command line of `HeuriMentor`. Wires the crates together; the rules are in `hm-domain`.

mod audit;
mod cli;
mod inbox;
mod plugins;
mod progress;
mod registry;
mod resume;
mod run_file;
mod run_loop;
mod runs;
mod train;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use hm_domain::id::RunId;
use hm_store::{PrivatePostgres, Store};

use crate::cli::{AuditArgs, Cli, Command, DbCommand, RunFileArgs};
use crate::run_file::RunFile;

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("hm: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Where things lie, and the runtime that talks to the database.
pub(crate) struct Workplace {
    pub(crate) data_dir: PathBuf,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Workplace {
    pub(crate) fn store(&self) -> Result<Store> {
        let url = hm_store::database_url(&self.data_dir)?;
        Ok(self.runtime.block_on(Store::connect(&url))?)
    }

    pub(crate) fn find_run(&self, store: &Store, run: &str) -> Result<RunId> {
        self.runtime
            .block_on(store.find_run(run))?
            .ok_or_else(|| anyhow!("no run `{run}`; see `hm runs ls`"))
    }
}

fn run(cli: Cli) -> Result<u8> {
    let data_dir = match cli.data_dir {
        Some(folder) => folder,
        None => hm_store::default_data_dir()?,
    };
    std::fs::create_dir_all(&data_dir)
        .with_context(|| format!("cannot make data folder {}", data_dir.display()))?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let context = Workplace { data_dir, runtime };
    match cli.command {
        Command::Prepare(args) => prepare(&context, &args),
        Command::Train(args) => train::train(&context, &args),
        Command::Audit(args) => audit_run(&context, &args),
        Command::Plugin(command) => plugins::run(&context, command),
        Command::Runs(command) => runs::run(&context, command),
        Command::Db(command) => database(&context, command),
    }
}

fn prepare(context: &Workplace, args: &RunFileArgs) -> Result<u8> {
    let file = RunFile::read(&args.config, &args.sets)?;
    let (manifest, folder) = train::prepared(context, &file)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&manifest)?);
        return Ok(0);
    }
    println!("prepared in {}: vocabulary {}", folder.display(), manifest.vocabulary);
    for domain in &manifest.domains {
        let documents: u64 = domain.segments.iter().map(|segment| segment.documents).sum();
        let tokens: u64 = domain.segments.iter().map(|segment| segment.tokens).sum();
        let held_out = domain.validation.as_ref().map_or(0, |segment| segment.documents);
        println!(
            "  {:20} {documents:8} documents {tokens:10} tokens, {held_out} held out",
            domain.name
        );
    }
    for file in manifest.files.iter().filter(|file| file.bad > 0) {
        let first = file.first_bad.as_deref().unwrap_or_default();
        println!("  {}: {} bad lines, first: {first}", file.path.display(), file.bad);
    }
    Ok(0)
}

fn audit_run(context: &Workplace, args: &AuditArgs) -> Result<u8> {
    let store = context.store()?;
    let run = context.find_run(&store, &args.run)?;
    let registry = train::registry(context, &store)?;
    let report = context.runtime.block_on(audit::audit(&store, registry, run, args.level))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        report.print();
    }
    Ok(report.exit_code(args.strict))
}

fn database(context: &Workplace, command: DbCommand) -> Result<u8> {
    match command {
        DbCommand::Url => println!("{}", hm_store::database_url(&context.data_dir)?),
        DbCommand::Psql { args } => {
            let url = hm_store::database_url(&context.data_dir)?;
            let status =
                std::process::Command::new("psql").arg(url).args(args).status().context(
                    "cannot start psql; install it with: apt-get install postgresql-client",
                )?;
            return Ok(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1));
        }
        DbCommand::Rebuild { run } => {
            let store = context.store()?;
            let id = context.find_run(&store, &run)?;
            let events = context.runtime.block_on(store.rebuild(id))?;
            println!("rebuilt the projections of {run} from {events} events");
        }
        DbCommand::Stop => {
            PrivatePostgres::stop_in(&context.data_dir)?;
            println!("the private database is stopped");
        }
    }
    Ok(0)
}
