//! `hm`: the command line of `HeuriMentor`. Wires the crates together; the rules are in `hm-domain`.

// First: what it defines is meant by every `println!` below.
#[macro_use]
mod terminal;

mod cli;
mod corpora;
mod database;
mod demo;
mod forecast;
mod interrupt;
mod page;
mod plugins;
mod progress;
mod prove;
mod run_file;
mod runtime;
mod steer;
mod weights;
mod whole_file;
mod work;
mod workplace;

use std::process::ExitCode;

use anyhow::Result;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser as _};

use crate::cli::{Cli, Command};
use crate::workplace::Workplace;

fn main() -> ExitCode {
    let code = program();
    terminal::settle();
    ExitCode::from(code)
}

fn program() -> u8 {
    // Without a word clap would print this itself, were the data folder not taken from the environment.
    if std::env::args_os().len() <= 1 {
        eprintln!("{}", Cli::command().render_help());
        return 2;
    }
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,sqlx=error,hm_serve=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(terminal::has_colours())
        // It would tell standard error that standard error is closed, and panic.
        .log_internal_errors(false)
        .with_writer(|| terminal::Log)
        .init();
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        // Printed beside the parser's own words, which name no flag.
        if let Some(file) = named_without_flag(&error) {
            eprintln!("hm: a run file is named with -c: -c {file}");
        }
        error.exit()
    });
    let code = corpora::prepare::or_interrupted(run(cli)).unwrap_or_else(|error| {
        eprintln!("hm: {}", sentence(&error));
        2
    });
    match terminal::lost() {
        Some(why) if code == 0 => {
            eprintln!("hm: standard output could not be written: {why}");
            2
        }
        _ => code,
    }
}

/// A run file that was typed where no word is expected.
fn named_without_flag(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else { return None };
    let ends = [".yaml", ".yml", ".toml"].iter().any(|ending| word.ends_with(ending));
    (error.kind() == ErrorKind::UnknownArgument && ends).then(|| word.clone())
}

/// Without the system's number of an error, which tells nobody anything.
fn without_number(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |said, part| match part.split_once(')') {
        Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => said + rest,
        _ => format!("{said} (os error {part}"),
    })
}

/// An error with its causes, each said once: many a library's words hold those of its cause.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(|cause| without_number(&cause.to_string())).fold(
        String::new(),
        |said, cause| match &said[..] {
            "" => cause,
            text if text.contains(&cause) => said,
            _ => format!("{said}: {cause}"),
        },
    )
}

fn run(cli: Cli) -> Result<u8> {
    let workplace = &Workplace::open(cli.data_dir)?;
    match cli.command {
        Command::Demo(args) => demo::demo(workplace, &args),
        Command::Prepare(args) => corpora::prepare::prepare(workplace, &args),
        Command::Train(args) => work::train::train(workplace, &args),
        Command::Import(args) => weights::import::import(&args),
        Command::Export(args) => weights::export::export(workplace, &args),
        Command::Generate(args) => weights::generate::generate(workplace, &args),
        Command::Serve(args) => page::serve::serve(workplace, &args),
        Command::Audit(args) => steer::audit::run(workplace, &args),
        Command::Plugin(command) => plugins::run(workplace, command),
        Command::Runs(command) => steer::runs::run(workplace, command),
        Command::Key(command) => prove::command::run(workplace, command),
        Command::Db(command) => database::run(workplace, command),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn number_of_a_system_error_is_left_out() {
        let said = without_number("a: No such file or directory (os error 2): b (os error 13)");
        assert_eq!(said, "a: No such file or directory: b");
        assert_eq!(without_number("what (os error says)"), "what (os error says)");
    }

    #[test]
    fn run_file_without_its_flag_is_known() {
        let error = |words: &[&str]| Cli::try_parse_from(words).unwrap_err();
        let named = |words: &[&str]| named_without_flag(&error(words));
        assert_eq!(named(&["hm", "train", "second.yaml"]), Some("second.yaml".to_owned()));
        assert_eq!(named(&["hm", "train", "second"]), None);
        assert_eq!(named(&["hm", "train"]), None);
    }

    #[test]
    fn causes_are_said_once() {
        let error = anyhow!("no place").context("database: no place").context("cannot list runs");
        assert_eq!(sentence(&error), "cannot list runs: database: no place");
    }
}
