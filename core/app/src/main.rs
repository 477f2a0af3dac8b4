//! `hm`: the command line of `HeuriMentor`. Wires the crates together; the rules are in `hm-domain`.

mod audit;
mod backend;
mod chat;
mod checkpoints;
mod cli;
mod costs;
mod database;
mod demo;
mod dry_run;
mod environment;
mod export;
mod free_memory;
mod generate;
mod import;
mod inbox;
mod interrupt;
mod memory;
mod model_choice;
mod outlook;
mod plugins;
mod prepare;
mod progress;
mod registry;
mod resolve;
mod resume;
mod run_end;
mod run_file;
mod run_loop;
mod runs;
mod serve;
mod settings;
mod spec_change;
mod throughput;
mod timeline;
mod train;
mod training_choice;
mod typed;
mod typed_again;
mod validations;
mod weights;
mod worker;
mod workplace;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::cli::{Cli, Command};
use crate::workplace::Workplace;

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

fn run(cli: Cli) -> Result<u8> {
    let workplace = Workplace::open(cli.data_dir)?;
    match cli.command {
        Command::Demo(args) => demo::demo(&workplace, &args),
        Command::Prepare(args) => prepare::prepare(&workplace, &args),
        Command::Train(args) => train::train(&workplace, &args),
        Command::Import(args) => import::import(&args),
        Command::Export(args) => export::export(&workplace, &args),
        Command::Generate(args) => generate::generate(&workplace, &args),
        Command::Serve(args) => serve::serve(&workplace, &args),
        Command::Audit(args) => audit::run(&workplace, &args),
        Command::Plugin(command) => plugins::run(&workplace, command),
        Command::Runs(command) => runs::run(&workplace, command),
        Command::Db(command) => database::run(&workplace, command),
    }
}
