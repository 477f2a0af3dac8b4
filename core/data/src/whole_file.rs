//! Files that are there whole or not at all: written and synced under a name that ends in `.part`, then
//! renamed. What a crash leaves under such a name is deleted before the next preparation.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::error::{Result, at};

/// Ends the names of files that do not count.
pub(crate) const PART: &str = ".part";

/// Writes `folder`/`name`.
pub(crate) fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let (part, path) = (folder.join(format!("{name}{PART}")), folder.join(name));
    let mut file = File::create(&part).map_err(at(&part))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(&part))?;
    std::fs::rename(&part, &path).map_err(at(&path))?;
    sync_folder(folder)
}

/// Makes names in `folder` last.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
}

/// Deletes the files of `folder` whose name `goes`.
pub(crate) fn remove(folder: &Path, goes: &dyn Fn(&str) -> bool) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_file() && goes(&name) {
            std::fs::remove_file(&path).map_err(at(&path))?;
        }
    }
    Ok(())
}
