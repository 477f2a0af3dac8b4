//! The page that teaches how to write a plugin shows this one.

#[test]
fn the_readme_shows_exactly_this_policy() {
    let readme = include_str!("../../../README.md");
    assert!(
        readme.contains(include_str!("../src/lib.rs")),
        "copy src/lib.rs into plugins/README.md"
    );
}
