//! The demo's corpus: found once, then kept, so that an interrupted demo goes on with the same text although
//! the machine holds other text by now.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hm_data::FoundText;

use crate::progress;

/// Text of one domain at most, in bytes.
const DOMAIN_BYTES_MAX: u64 = 2 << 20;
/// What was found, written when all of it is there.
const FOUND: &str = "found.json";

/// Domains of text on this machine, at least two.
pub(crate) fn find(folder: &Path) -> Result<Vec<FoundText>> {
    let (found, kept) = match kept(folder) {
        Some(found) => (found, format!(" before (remove {} to look again)", folder.display())),
        None => (look(folder)?, String::new()),
    };
    println!("Text found{kept}:");
    for text in &found {
        let FoundText { domain, documents, bytes, .. } = text;
        println!("  {domain:15} {documents:6} documents, {:.1} MB", *bytes as f64 / 1e6);
    }
    Ok(found)
}

/// What was found before, if it is still there.
fn kept(folder: &Path) -> Option<Vec<FoundText>> {
    let text = std::fs::read(folder.join(FOUND)).ok()?;
    let found: Vec<FoundText> = serde_json::from_slice(&text).ok()?;
    let is_there = |path: &PathBuf| path.starts_with(folder) && path.is_file();
    found.iter().all(|text| is_there(&text.path) && is_there(&text.held_out)).then_some(found)
}

fn look(folder: &Path) -> Result<Vec<FoundText>> {
    let (cargo_home, share) = hm_data::machine_text_places()?;
    let bar = progress::spinner("looking for text on this machine");
    let found =
        hm_data::gather_machine_text((&cargo_home, &share), folder, DOMAIN_BYTES_MAX, &mut |_| {
            bar.tick();
        })?;
    bar.finish_and_clear();
    if found.len() < 2 {
        bail!(
            "found {} kinds of text, and a mixture wants at least two: looked for Rust, C and Markdown sources under {}, documentation and manual pages under {}",
            found.len(),
            cargo_home.display(),
            share.display()
        );
    }
    keep(folder, &found)?;
    Ok(found)
}

/// Whole or not at all: a demo that is interrupted here looks again.
fn keep(folder: &Path, found: &[FoundText]) -> Result<()> {
    let (path, part) = (folder.join(FOUND), folder.join(format!("{FOUND}.part")));
    std::fs::write(&part, serde_json::to_vec_pretty(found)?)
        .and_then(|()| std::fs::rename(&part, &path))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_kept_as_long_as_all_of_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let path = |name: &str| folder.join(name);
        let (path, held_out) = (path("rust.jsonl"), path("rust_val.jsonl"));
        let found =
            vec![FoundText { domain: "rust".into(), path, held_out, documents: 40, bytes: 9 }];
        assert_eq!(kept(folder), None);
        keep(folder, &found).unwrap();
        assert_eq!(kept(folder), None);
        std::fs::write(&found[0].path, "").unwrap();
        std::fs::write(&found[0].held_out, "").unwrap();
        assert_eq!(kept(folder), Some(found.clone()));
        std::fs::remove_file(&found[0].held_out).unwrap();
        assert_eq!(kept(folder), None);
    }
}
