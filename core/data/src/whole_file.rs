//! Files that are there whole or not at all: written and synced under a name of this process that ends in
//! `.part`, then renamed.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::error::{Result, at};

/// Ends the names of files that do not count.
pub(crate) const PART: &str = ".part";

/// Writes `folder`/`name`.
pub(crate) fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    // Two processes may write the same file at once: each its own, and the last one's stays.
    let part = folder.join(format!("{name}.{}{PART}", std::process::id()));
    let path = folder.join(name);
    let mut file = File::create(&part).map_err(at(&part))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(&part))?;
    std::fs::rename(&part, &path).map_err(at(&path))?;
    sync_folder(folder)
}

/// Makes names in `folder` last.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
}
