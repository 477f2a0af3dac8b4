//! The demo's corpus: found once, then kept, so that an interrupted demo goes on with the same text.

use std::path::Path;

use anyhow::{Result, bail};
use hm_data::FoundText;

use crate::progress;

/// Text of one domain at most, in bytes.
const DOMAIN_BYTES_MAX: u64 = 2 << 20;

/// Domains of text on this machine, at least two.
pub(crate) fn find(folder: &Path) -> Result<Vec<FoundText>> {
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
    println!("Text found:");
    for text in &found {
        let FoundText { domain, documents, bytes, .. } = text;
        println!("  {domain:15} {documents:6} documents, {:.1} MB", *bytes as f64 / 1e6);
    }
    Ok(found)
}
