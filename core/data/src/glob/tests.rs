//! What people have in their folders, and what a pattern makes of it.

use super::*;

/// A folder with files of these names.
fn folder(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }
    folder
}

fn found(folder: &Path, pattern: &str) -> Vec<String> {
    let found = find(folder, pattern).unwrap();
    assert!(found.unsearched.is_empty(), "{found:?}");
    let name = |path: PathBuf| path.strip_prefix(folder).unwrap().display().to_string();
    found.files.into_iter().map(name).collect()
}

#[test]
fn patterns_match_what_a_shell_matches() {
    let folder = folder(&[
        "a.jsonl",
        "b.jsonl",
        ".hidden.jsonl",
        "c.txt",
        "run[1]/x.jsonl",
        "d/e/f.jsonl",
        "d/g.jsonl",
        "d/.git/h.jsonl",
        "odd[1].txt",
        "p1.json",
        "p2.json",
        "p3.json",
    ]);
    for (pattern, names) in [
        ("*.jsonl", vec!["a.jsonl", "b.jsonl"]),
        ("./*.jsonl", vec!["a.jsonl", "b.jsonl"]),
        ("[ab].jsonl", vec!["a.jsonl", "b.jsonl"]),
        ("[!a].jsonl", vec!["b.jsonl"]),
        ("?.txt", vec!["c.txt"]),
        (".*.jsonl", vec![".hidden.jsonl"]),
        ("d/*", vec!["d/g.jsonl"]),
        ("d/**/*.jsonl", vec!["d/e/f.jsonl", "d/g.jsonl"]),
        ("d/**", vec!["d/e/f.jsonl", "d/g.jsonl"]),
        ("**/f.jsonl", vec!["d/e/f.jsonl"]),
        ("d/.*/*", vec!["d/.git/h.jsonl"]),
        ("*/*/*.jsonl", vec!["d/e/f.jsonl"]),
        ("{a,b}.jsonl", vec!["a.jsonl", "b.jsonl"]),
        ("{a,a}.jsonl", vec!["a.jsonl"]),
        ("p{1..2}.json", vec!["p1.json", "p2.json"]),
        ("odd[1].txt", vec!["odd[1].txt"]),
        ("run\\[1\\]/*.jsonl", vec!["run[1]/x.jsonl"]),
        ("d/e/../g.jsonl", vec!["d/e/../g.jsonl"]),
    ] {
        assert_eq!(found(folder.path(), pattern), names, "{pattern}");
    }
    let absolute = folder.path().join("*.txt");
    let files = find(Path::new("/nowhere"), absolute.to_str().unwrap()).unwrap().files;
    assert_eq!(files.len(), 2);
}

#[test]
fn the_folder_of_the_run_file_is_no_part_of_the_pattern() {
    let outer = folder(&["run[1]/a.jsonl", "*/a.jsonl", "{x,y}/a.jsonl"]);
    for name in ["run[1]", "*", "{x,y}"] {
        assert_eq!(found(&outer.path().join(name), "*.jsonl"), ["a.jsonl"], "{name}");
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_loops_survived() {
    use std::os::unix::fs::symlink;
    let outer = folder(&["real/a.jsonl", "d/b.jsonl", "d/sub/c.jsonl"]);
    symlink("../real", outer.path().join("d/link")).unwrap();
    symlink("../real/a.jsonl", outer.path().join("d/file.jsonl")).unwrap();
    symlink("..", outer.path().join("d/sub/up")).unwrap();
    symlink(".", outer.path().join("d/self")).unwrap();
    let all = ["d/b.jsonl", "d/file.jsonl", "d/link/a.jsonl", "d/sub/c.jsonl"];
    assert_eq!(found(outer.path(), "d/**/*.jsonl"), all);
    assert_eq!(found(outer.path(), "d/link/*"), ["d/link/a.jsonl"]);
    symlink("nowhere", outer.path().join("d/gone.jsonl")).unwrap();
    let refused = find(outer.path(), "d/**/*.jsonl").unwrap_err().to_string();
    assert!(
        refused.ends_with("d/gone.jsonl: is a link to nothing: remove it or mend it"),
        "{refused}"
    );
    assert_eq!(found(outer.path(), "d/**/b.jsonl"), ["d/b.jsonl"]);
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_opened_is_told_if_the_pattern_reaches_it_and_only_then() {
    let outer = folder(&["data/a.jsonl", "data/sub/b.jsonl"]);
    // Not even the system's administrator can open this one.
    std::os::unix::fs::symlink("knot", outer.path().join("data/knot")).unwrap();
    for (pattern, files, unsearched) in [
        ("data/*.jsonl", 1, 0),
        ("data/sub/*.jsonl", 1, 0),
        ("data/*/*.jsonl", 1, 1),
        ("**/*.jsonl", 2, 1),
    ] {
        let found = find(outer.path(), pattern).unwrap();
        assert_eq!((found.files.len(), found.unsearched.len()), (files, unsearched), "{found:?}");
        assert!(found.unsearched.iter().all(|told| told.contains("data/knot cannot be searched")));
    }
}

#[test]
fn a_pattern_without_a_match_says_where_it_looked_and_what_is_there() {
    let outer = folder(&["d/train.jsonl.gz", "d/notes.txt", "d/valid.json", "d/a", "d/b"]);
    let refused = |pattern: &str| find(outer.path(), pattern).unwrap_err().to_string();
    let said = refused("d/*.jsonl");
    let place = outer.path().join("d").display().to_string();
    assert!(
        said.contains(&format!("\"d/*.jsonl\" matches no file: no *.jsonl in {place}")),
        "{said}"
    );
    assert!(said.contains("train.jsonl.gz") && said.contains("and 2 more"), "{said}");
    let said = refused("e/*.jsonl");
    assert!(said.contains("no e in") && said.ends_with("there is d"), "{said}");
    assert!(refused("d").contains("is a folder: name its files"));
    assert!(refused("d/[ab").contains("cannot be read as a pattern"));
}
