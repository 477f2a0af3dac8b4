//! Files that are there whole or not at all, and on disk once they are.

use std::fs::{self, File};
use std::io::{Result, Write as _};
use std::path::Path;

/// Writes a file under a name that ends in `.part`, and gives it its own when it is whole.
pub(crate) fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let mut open = File::create(&part)?;
    open.write_all(bytes)?;
    open.sync_all()?;
    fs::rename(&part, file)?;
    // A name is kept by its folder.
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
