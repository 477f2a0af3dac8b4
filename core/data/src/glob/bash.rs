//! What bash makes of patterns: the judge of our own reading, where it is installed.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proptest::sample::select;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::find;
use super::tests::folder;

/// As many values, the same in every run.
pub(super) fn samples<S: Strategy>(strategy: S, count: usize) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// The words that each pattern is written out to, without their escapes.
pub(super) fn words(patterns: &[String]) -> Option<Vec<Vec<String>>> {
    let script = r#"set -f; while IFS= read -r -d '' word; do eval "printf '%s\n' $word"; printf '\0'; done"#;
    let answer = answers(script, Path::new("/"), patterns.iter().map(String::as_str))?;
    Some(answer.iter().map(|words| words.lines().map(str::to_owned).collect()).collect())
}

/// Whether each pattern matches the name beside it.
pub(super) fn matches(pairs: &[(String, String)]) -> Option<Vec<bool>> {
    let script = r#"while IFS= read -r -d '' pattern && IFS= read -r -d '' name; do
        case $name in $pattern) printf 'yes\0';; *) printf 'no\0';; esac; done"#;
    let input = pairs.iter().flat_map(|(pattern, name)| [pattern.as_str(), name.as_str()]);
    let answer = answers(script, Path::new("/"), input)?;
    Some(answer.iter().map(|answer| answer == "yes").collect())
}

/// The files that each pattern without braces names in a folder.
fn files(folder: &Path, patterns: &[String]) -> Option<Vec<Vec<String>>> {
    let script = r#"shopt -s globstar nullglob; IFS=; while read -r -d '' pattern; do
        eval "for file in ${pattern// /\\ }; do [ -f \"\$file\" ] && printf '%s\n' \"\$file\"; done"
        printf '\0'; done"#;
    let answer = answers(script, folder, patterns.iter().map(String::as_str))?;
    Some(answer.iter().map(|files| files.lines().map(str::to_owned).collect()).collect())
}

pub(super) fn without_escapes(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    plain
}

/// One answer to each question; `None` where there is no bash that knows `**` and UTF-8.
fn answers<'a>(
    script: &str,
    folder: &Path,
    questions: impl Iterator<Item = &'a str>,
) -> Option<Vec<String>> {
    let knows = r#"name=é; [ ${BASH_VERSINFO[0]} -ge 5 ] && [ ${#name} = 1 ]"#;
    if !bash(knows).status().is_ok_and(|status| status.success()) {
        return None;
    }
    let mut child = bash(script)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let questions: String = questions.map(|question| format!("{question}\0")).collect();
    let asking = std::thread::spawn(move || input.write_all(questions.as_bytes()));
    let output = child.wait_with_output().unwrap();
    asking.join().unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.split_terminator('\0').map(str::to_owned).collect())
}

fn bash(script: &str) -> Command {
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script]).env("LC_ALL", "C.UTF-8").env_remove("BASH_ENV");
    bash
}

#[cfg(unix)]
#[test]
fn any_pattern_names_the_files_that_bash_names() {
    let outer = folder(&[
        "a.j",
        "b.j",
        "é.j",
        "数据.j",
        ".h.j",
        "[a].j",
        "a*b.j",
        "q?.j",
        "-.j",
        "]x.j",
        "\\.j",
        "1.j",
        "a/b.j",
        "a/数.j",
        "a/b/a.j",
        "a/b/c/10.j",
        "a/.h/a.j",
        "数据/a/a.j",
        "数据/x.y/é.j",
        "b b/a.j",
        "b b/a/a b.j",
        "[v]/a.j",
        "[v]/v/1.j",
        "v/a.j",
    ]);
    let part = select(vec![
        "*",
        "?",
        "**",
        "a",
        "b",
        "v",
        "la",
        "up",
        "l",
        "b b",
        "数*",
        "*a",
        ".*",
        ".h",
        "[!a]",
        "[^é]",
        "?*",
        "*.j",
        "?.j",
        "a.j",
        "[数é].j",
        "*\\**",
        "\\[a\\].j",
        "[[]*",
        "[[:digit:]]*",
        "..",
        ".",
        "***",
        "[a-c].j",
        "*[!.]j",
        "\\\\.j",
        "?.?",
    ]);
    let pattern = proptest::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"));
    let (deep, others): (Vec<_>, Vec<_>) =
        samples(pattern, 3000).into_iter().partition(|pattern| pattern.contains("**"));
    assert_names_what_bash_names(outer.path(), &deep);
    // Behind `**` bash looks into links that lie where it begins, and into no others: not our example.
    for (target, link) in [("..", "a/up"), ("../../a", "数据/a/l"), ("a", "la"), ("a.j", "l.j")] {
        std::os::unix::fs::symlink(target, outer.path().join(link)).unwrap();
    }
    assert_names_what_bash_names(outer.path(), &others);
}

fn assert_names_what_bash_names(folder: &Path, patterns: &[String]) {
    let Some(expected) = files(folder, patterns) else { return };
    assert!(expected.iter().filter(|files| !files.is_empty()).count() > 20);
    let differ = patterns.iter().zip(expected).filter_map(|(pattern, expected)| {
        let expected: BTreeSet<PathBuf> = expected.iter().map(|name| folder.join(name)).collect();
        let found = find(folder, pattern).map(|found| found.files).unwrap_or_default();
        (found != expected).then_some((pattern, found, expected))
    });
    let differ: Vec<_> = differ.collect();
    assert!(differ.is_empty(), "{differ:#?}");
}
