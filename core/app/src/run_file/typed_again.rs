//! Commands to type next, as this one was typed: the same flags, quoted for a shell, less those that
//! were meant once.

use std::ffi::OsString;

use hm_domain::id::RunId;

/// Flags of `hm train` that are not to be repeated.
const MEANT_ONCE: [&str; 3] = ["--new", "--accept-divergence", "--dry-run"];

/// The command of this process.
pub(crate) fn typed_again() -> String {
    again(std::env::args_os())
}

/// The same for a certain one of the runs of a name.
pub(crate) fn typed_again_for(run: RunId) -> String {
    again_for(std::env::args_os(), run)
}

/// Another command on the data folder that this process was given, if it was given one.
pub(crate) fn typed_beside(words: &[&str]) -> String {
    beside(std::env::args_os(), words)
}

fn again(arguments: impl Iterator<Item = OsString>) -> String {
    let typed =
        arguments.skip(1).filter(|argument| !MEANT_ONCE.iter().any(|once| argument == once));
    command(typed)
}

fn again_for(arguments: impl Iterator<Item = OsString>, run: RunId) -> String {
    // One that was typed names the run that was meant then.
    let mut value_follows = false;
    let other = arguments.filter(|argument| {
        let is_value = std::mem::take(&mut value_follows);
        value_follows = argument == RUN;
        let is_both = argument.to_str().is_some_and(|text| text.starts_with(RUN_IS));
        !is_value && !value_follows && !is_both
    });
    format!("{} {RUN} {run}", again(other))
}

fn beside(arguments: impl Iterator<Item = OsString>, words: &[&str]) -> String {
    let mut arguments = arguments.skip(1).skip_while(|argument| {
        !argument.to_str().is_some_and(|text| text == DATA_DIR || text.starts_with(DATA_DIR_IS))
    });
    let flag = arguments.next();
    let value = arguments.next().filter(|_| flag.as_ref().is_some_and(|flag| flag == DATA_DIR));
    command(flag.into_iter().chain(value).chain(words.iter().map(OsString::from)))
}

const RUN: &str = "--run";
const RUN_IS: &str = "--run=";
const DATA_DIR: &str = "--data-dir";
const DATA_DIR_IS: &str = "--data-dir=";

fn command(arguments: impl Iterator<Item = OsString>) -> String {
    let quoted = arguments.map(|argument| quoted(&argument.to_string_lossy()));
    std::iter::once("hm".to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// As it is where no shell reads anything into it: `--set name=x` is more readable so.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./_-".contains(c);
    match !argument.is_empty() && !argument.starts_with('=') && argument.chars().all(plain) {
        true => argument.to_owned(),
        false => shell_words::quote(argument).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(words: &[&str]) -> impl Iterator<Item = OsString> {
        words.iter().map(OsString::from).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn every_flag_is_repeated_quoted_but_those_meant_once() {
        let words = [
            "/some/where/hm",
            "--data-dir",
            "my data",
            "train",
            "-c",
            "run.yaml",
            "--set",
            "name=x",
            "--set",
            "mixture={\"a\":0.5}",
            "--device",
            "cpu",
            "--new",
            "--accept-divergence",
        ];
        // What a shell makes of it is what was typed.
        let again = shell_words::split(&again(typed(&words))).unwrap();
        assert_eq!(again[1..], words[1..12]);
    }

    #[test]
    fn value_that_looks_like_a_flag_meant_once_stays() {
        let again = again(typed(&["hm", "train", "--set", "name=--new", "--new"]));
        assert_eq!(again, "hm train --set name=--new");
    }

    #[test]
    fn certain_run_is_named_once() {
        let run = RunId(uuid::Uuid::from_u128(7));
        let due = format!("hm train -c r.yaml --json --run {run}");
        for words in [
            &["hm", "train", "-c", "r.yaml", "--new", "--json"][..],
            &["hm", "train", "--run", "an-older-one", "-c", "r.yaml", "--json"],
            &["hm", "train", "--run=an-older-one", "-c", "r.yaml", "--json"],
        ] {
            assert_eq!(again_for(typed(words), run), due);
        }
    }

    #[test]
    fn another_command_is_given_the_same_data_folder() {
        for words in [&["hm", "train", "--data-dir", "d", "-c", "r"][..], &["hm", "--data-dir=d"]] {
            let beside = beside(typed(words), &["audit", "my run"]);
            let split = shell_words::split(&beside).unwrap();
            let data_dir = match split.len() {
                5 => format!("{}={}", split[1], split[2]),
                _ => split[1].clone(),
            };
            assert_eq!(
                (data_dir.as_str(), split.last().unwrap().as_str()),
                ("--data-dir=d", "my run")
            );
        }
        assert_eq!(beside(typed(&["hm", "train", "-c", "r"]), &["audit", "x"]), "hm audit x");
    }
}
