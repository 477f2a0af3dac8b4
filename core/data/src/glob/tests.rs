//! What people have in their folders, and what a pattern makes of it.

use super::*;

/// A folder with files of these names.
pub(super) fn folder(names: &[&str]) -> tempfile::TempDir {
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
    assert!(found.warnings.is_empty(), "{found:?}");
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
        ("p{3..2}.json", vec!["p2.json", "p3.json"]),
        ("p[[:digit:]].json", vec!["p1.json", "p2.json", "p3.json"]),
        ("{d/e/f,a}.jsonl", vec!["a.jsonl", "d/e/f.jsonl"]),
        ("d//g.jsonl", vec!["d/g.jsonl"]),
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

#[test]
fn a_part_that_is_there_as_typed_is_taken_as_that() {
    let outer = folder(&[
        "my corpus/sub dir [v1]/a.jsonl",
        "my corpus/sub dir [v1]/{b,c}.jsonl",
        "my corpus/wudao/a.jsonl",
        "{x,y}/[0-9].jsonl",
        "a\\b/c.jsonl",
    ]);
    for (pattern, names) in [
        ("my corpus/sub dir [v1]/a*.jsonl", "my corpus/sub dir [v1]/a.jsonl"),
        ("my corpus/sub dir [v1]/{b,c}.jsonl", "my corpus/sub dir [v1]/{b,c}.jsonl"),
        ("*/sub dir [v1]/a.jsonl", "my corpus/sub dir [v1]/a.jsonl"),
        ("**/sub dir [v1]/{b,c}.jsonl", "my corpus/sub dir [v1]/{b,c}.jsonl"),
        ("{x,y}/*.jsonl", "{x,y}/[0-9].jsonl"),
        ("*/[0-9].jsonl", "{x,y}/[0-9].jsonl"),
        ("a\\b/*", "a\\b/c.jsonl"),
    ] {
        assert_eq!(found(outer.path(), pattern), [names], "{pattern}");
    }
}

#[test]
fn what_a_part_also_means_is_told_where_it_is_taken_as_it_stands() {
    let outer = folder(&["[ab].jsonl", "a.jsonl", "b.jsonl", "{a,c}.txt", "a.txt", "q?", "qa"]);
    let both = find(outer.path(), "[ab].jsonl").unwrap();
    assert_eq!(both.files.len(), 1);
    assert!(both.warnings[0].contains("taken as it stands: `a.jsonl` and 1 more"), "{both:?}");
    let both = find(outer.path(), "{a,c}.txt").unwrap();
    assert_eq!((both.files.len(), both.warnings.len()), (1, 1), "{both:?}");
    // A star or a question mark stands for itself too, so nothing is left out.
    assert_eq!(found(outer.path(), "q?"), ["q?", "qa"]);
}

#[test]
fn a_choice_without_a_wild_card_must_be_there_and_another_is_told() {
    let outer = folder(&["v1/x.jsonl", "v2/x.jsonl", "v2/sub/y.jsonl"]);
    let refused = |pattern: &str| find(outer.path(), pattern).unwrap_err().to_string();
    let place = outer.path().display();
    let said = refused("{v2,v3}/x.jsonl");
    let sentence = format!(
        "source \"{{v2,v3}}/x.jsonl\" matches no file as `v3/x.jsonl`: no `v3` in {place}, there is `v1`, `v2`; take out of its braces what is not there"
    );
    assert_eq!(said, sentence);
    let said = refused("v2/{x,missing,gone}.jsonl");
    assert!(said.contains("as `v2/missing.jsonl` and 1 more of its choices: no `missing.jsonl`"));
    let said = refused("v2/{x.jsonl,sub}");
    assert!(said.contains("as `v2/sub`") && said.contains("is a folder: name its files"), "{said}");
    for pattern in ["{v2,v3,v4}/*.jsonl", "{v2/x,v3/?,v4/?}.jsonl", "**/{x,[ab],?z}.jsonl"] {
        let found = find(outer.path(), pattern).unwrap();
        let told = "more of its choices: no `";
        assert!(found.warnings.len() == 1 && found.warnings[0].contains(told), "{found:?}");
        assert!(found.warnings[0].starts_with("source \"") && !found.files.is_empty(), "{found:?}");
    }
    assert_eq!(found(outer.path(), "{v1,v2}/x.jsonl"), ["v1/x.jsonl", "v2/x.jsonl"]);
    assert!(refused("{v3,v4}/*.jsonl").contains("matches no file: no `v3` in"));
}

#[cfg(unix)]
#[test]
fn links_that_a_part_names_are_followed_and_none_by_two_stars() {
    use std::os::unix::fs::symlink;
    let outer = folder(&["real/a.jsonl", "d/b.jsonl", "d/sub/c.jsonl"]);
    symlink("../real", outer.path().join("d/link")).unwrap();
    symlink("../real/a.jsonl", outer.path().join("d/file.jsonl")).unwrap();
    symlink("..", outer.path().join("d/sub/up")).unwrap();
    symlink(".", outer.path().join("d/self")).unwrap();
    let deep = find(outer.path(), "d/**/*.jsonl").unwrap();
    let all = ["d/b.jsonl", "d/file.jsonl", "d/sub/c.jsonl"].map(|name| outer.path().join(name));
    assert_eq!(deep.files, all.into());
    assert_eq!(deep.warnings.len(), 1, "only what lies elsewhere is told: {deep:?}");
    assert!(deep.warnings[0].contains("and leaves out "), "{deep:?}");
    assert!(deep.warnings[0].contains("d/link: if it should be read, name it"), "{deep:?}");
    assert_eq!(found(outer.path(), "d/link/*"), ["d/link/a.jsonl"]);
    assert_eq!(found(outer.path(), "d/link/**"), ["d/link/a.jsonl"]);
    assert_eq!(found(outer.path(), "d/l*/*"), ["d/link/a.jsonl"]);
    symlink("nowhere", outer.path().join("d/gone.jsonl")).unwrap();
    let refused = find(outer.path(), "d/**/*.jsonl").unwrap_err().to_string();
    assert!(
        refused.ends_with("d/gone.jsonl: is a link to nothing: remove it or mend it"),
        "{refused}"
    );
    assert_eq!(find(outer.path(), "d/**/b.jsonl").unwrap().files.len(), 1);
    let refused = find(outer.path(), "d/**/a.jsonl").unwrap_err().to_string();
    assert!(refused.contains("or below") && refused.contains("leaves out"), "{refused}");
}

#[cfg(unix)]
#[test]
fn folders_that_are_linked_with_each_other_are_read_once() {
    let names: Vec<String> = (0..12).map(|number| format!("f{number}")).collect();
    let files: Vec<String> = names.iter().map(|name| format!("{name}/a.jsonl")).collect();
    let outer = folder(&files.iter().map(String::as_str).collect::<Vec<_>>());
    for name in &names {
        for other in names.iter().filter(|other| *other != name) {
            let link = outer.path().join(name).join(other);
            std::os::unix::fs::symlink(format!("../{other}"), link).unwrap();
        }
    }
    assert_eq!(found(outer.path(), "**/*.jsonl").len(), 12);
    assert_eq!(found(outer.path(), "**/**/**/a.jsonl").len(), 12);
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_opened_is_told_if_the_pattern_reaches_it_and_only_then() {
    let outer = folder(&["data/a.jsonl", "data/sub/b.jsonl"]);
    // Not even the system's administrator can open this one.
    std::os::unix::fs::symlink("knot", outer.path().join("data/knot")).unwrap();
    for (pattern, files, told) in [
        ("data/*.jsonl", 1, 0),
        ("data/sub/*.jsonl", 1, 0),
        ("data/*/*.jsonl", 1, 1),
        ("**/*.jsonl", 2, 0),
    ] {
        let found = find(outer.path(), pattern).unwrap();
        assert_eq!((found.files.len(), found.warnings.len()), (files, told), "{found:?}");
        assert!(found.warnings.iter().all(|told| told.contains("data/knot cannot be searched")));
    }
    let refused = find(outer.path(), "data/knot/*.jsonl").unwrap_err().to_string();
    assert!(refused.contains("matches no file: ") && refused.contains("data/knot cannot be"));
}

#[test]
fn a_pattern_without_a_match_says_where_it_looked_and_what_is_there() {
    let outer =
        folder(&["d/train.jsonl.gz", "d/notes.txt", "d/valid.json", "d/a", "e e/sub/b", "e e/c"]);
    let place = outer.path().display().to_string();
    for (pattern, said) in [
        ("d/*.jsonl", "no `*.jsonl` in PLACE/d, there is `"),
        ("d/valid.jsonl", "no `valid.jsonl` in PLACE/d, there is `valid.json`, `"),
        ("d/[ab", "no `[ab` in PLACE/d, there is `"),
        ("d/{1..10..9}.j", "no `1.j` in PLACE/d, there is `"),
        ("f/*.jsonl", "no `f` in PLACE, there is `d`, `e e`"),
        ("**/*.jsonl", "no `*.jsonl` in PLACE or below, there is `d`, `e e`"),
        ("*/s?b/*.jsonl", "no `*.jsonl` in PLACE/e e/sub, there is `b`"),
        ("e e/*/no.jsonl", "no `no.jsonl` in PLACE/e e/sub, there is `b`"),
        ("d/*/*.jsonl", "PLACE/d/a is no folder"),
        ("d/a/", "PLACE/d/a is no folder"),
        ("d/a/.", "PLACE/d/a is no folder"),
        ("d/a/*.jsonl", "PLACE/d/a is no folder"),
        ("d", "PLACE/d is a folder: name its files, as in `d/**/*.jsonl`"),
        ("d/", "PLACE/d is a folder: name its files, as in `d/**/*.jsonl`"),
        ("e?e/s*", "PLACE/e e/sub is a folder: name its files, as in `sub/**/*.jsonl`"),
    ] {
        let refused = find(outer.path(), pattern).unwrap_err().to_string();
        let said = format!("source \"{pattern}\" matches no file: {said}").replace("PLACE", &place);
        assert!(refused.starts_with(&said), "{refused} is not {said}");
        assert!(!said.contains("/d, there") || refused.ends_with(" and 1 more"), "{refused}");
    }
    let refused = find(outer.path(), "d/[[:digits:]]").unwrap_err().to_string();
    assert!(refused.contains("cannot be read as a pattern"), "{refused}");
    let nowhere = find(&outer.path().join("nowhere"), "*.jsonl").unwrap_err().to_string();
    assert!(nowhere.ends_with("nowhere is no folder"), "{nowhere}");
}
