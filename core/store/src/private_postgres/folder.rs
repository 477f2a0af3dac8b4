//! Where a private cluster lies: what its folders are called is up to people, so a path may be long,
//! odd, closed to the server's user or on a file system without sockets. Each is answered here, before
//! a program of PostgreSQL says it in its own words.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use sha2::{Digest as _, Sha256};

use crate::error::{Result, StoreError};

/// Longest folder that leaves room for `/.s.PGSQL.5432` within a socket path's 107 bytes.
const SOCKET_FOLDER_BYTES_MAX: usize = 90;

/// PostgreSQL's own paths end at 1024 bytes, and those below the cluster need some of them.
const DATA_FOLDER_BYTES_MAX: usize = 900;

/// Makes the data folder if need be, and gives its whole path.
pub(super) fn data_folder(folder: &Path, owner: Option<&User>) -> Result<PathBuf> {
    if folder.exists() && !folder.is_dir() {
        return Err(bad(folder, "it is a file".to_owned()));
    }
    make_folder(folder, 0o755, owner).map_err(|error| bad(folder, error.to_string()))?;
    let whole = folder.canonicalize().map_err(|error| bad(folder, error.to_string()))?;
    let bytes = whole.as_os_str().as_encoded_bytes();
    if bytes.iter().any(u8::is_ascii_control) {
        return Err(bad(folder, "its path holds a control character".to_owned()));
    }
    if bytes.len() > DATA_FOLDER_BYTES_MAX {
        let why = format!("its path has {} bytes, at most {DATA_FOLDER_BYTES_MAX}", bytes.len());
        return Err(bad(folder, why));
    }
    Ok(whole)
}

/// The folder of the server's socket: in the data folder where that is short, plain and on a file system
/// that holds sockets, else one named after it in /tmp.
pub(super) fn socket_folder(data_dir: &Path, owner: Option<&User>) -> Result<PathBuf> {
    let inside = data_dir.join("socket");
    if is_plain(&inside) {
        make_private(&inside, owner)?;
        if holds_sockets(&inside) {
            return Ok(inside);
        }
    }
    let digest = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
    let name: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let outside = PathBuf::from(format!("/tmp/heurimentor-{name}"));
    make_private(&outside, owner)?;
    Ok(outside)
}

/// Whether it fits into a socket's path, a list of folders and an address as it is.
fn is_plain(folder: &Path) -> bool {
    let bytes = folder.as_os_str().as_encoded_bytes();
    bytes.len() <= SOCKET_FOLDER_BYTES_MAX
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.".contains(byte))
}

fn holds_sockets(folder: &Path) -> bool {
    let probe = folder.join("probe");
    let bound = UnixListener::bind(&probe).is_ok();
    // Where none was made there is none to remove.
    let _ = fs::remove_file(&probe);
    bound
}

/// A folder for its owner alone. One that somebody else has put there is not used: whoever owns it
/// could put a server of theirs in it.
pub(super) fn make_private(folder: &Path, owner: Option<&User>) -> Result<()> {
    make_folder(folder, 0o700, owner).map_err(|error| bad(folder, error.to_string()))?;
    let expected = owner.map_or_else(Uid::effective, |user| user.uid).as_raw();
    let found = fs::symlink_metadata(folder).map_err(|error| bad(folder, error.to_string()))?;
    if !found.is_dir() || found.uid() != expected {
        return Err(bad(folder, "it belongs to somebody else".to_owned()));
    }
    Ok(())
}

fn make_folder(folder: &Path, mode: u32, owner: Option<&User>) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(mode).create(folder)?;
    // The process's umask may have taken more away than was meant.
    fs::set_permissions(folder, fs::Permissions::from_mode(mode))?;
    if let Some(user) = owner {
        nix::unistd::chown(folder, Some(user.uid), Some(user.gid))?;
    }
    Ok(())
}

/// Why `owner` cannot work in `folder`, if a folder above it keeps them out.
pub(super) fn closed_to(owner: Option<&User>, folder: &Path) -> Option<String> {
    let user = owner?;
    let enters = |above: &&Path| {
        // A folder that is not there keeps nobody out.
        fs::metadata(above).map_or_else(is_missing, |found| {
            let allowed = match (found.uid(), found.gid()) {
                (uid, _) if uid == user.uid.as_raw() => 0o100,
                (_, gid) if gid == user.gid.as_raw() => 0o010,
                _ => 0o001,
            };
            found.mode() & allowed != 0
        })
    };
    let closed = folder.ancestors().filter(|above| !enters(above)).last()?;
    let name = &user.name;
    Some(format!("PostgreSQL runs as user {name}, who may not enter {}", closed.display()))
}

fn is_missing(error: std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

pub(super) fn bad(folder: &Path, why: String) -> StoreError {
    StoreError::BadFolder { folder: folder.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_lie_in_a_short_and_plain_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(socket_folder(folder.path(), None).unwrap(), folder.path().join("socket"));
        for odd in ["x".repeat(200), "a blank".to_owned(), "a,comma".to_owned(), "数据".to_owned()]
        {
            let odd = folder.path().join(odd);
            let sockets = socket_folder(&odd, None).unwrap();
            assert!(sockets.starts_with("/tmp") && is_plain(&sockets), "{}", sockets.display());
            assert_eq!(socket_folder(&odd, None).unwrap(), sockets, "the same for every process");
            fs::remove_dir(sockets).unwrap();
        }
    }

    #[test]
    fn folder_that_keeps_the_servers_user_out_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("data");
        fs::create_dir(&below).unwrap();
        let nobody = User::from_name("nobody").unwrap().unwrap();
        let mode = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode));
        mode(0o700).unwrap();
        let why = closed_to(Some(&nobody), &below).unwrap();
        assert!(
            why.ends_with(&format!("user nobody, who may not enter {}", folder.path().display()))
        );
        mode(0o755).unwrap();
        assert_eq!(closed_to(Some(&nobody), &below), None);
        assert_eq!(closed_to(None, &below), None);
    }

    #[test]
    fn data_folder_that_cannot_be_one_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = |path: PathBuf| data_folder(&path, None).unwrap_err().to_string();
        assert!(refused(file.clone()).contains("file: it is a file; name another folder"));
        assert!(refused(file.join("below")).contains("file/below: "));
        let lines = refused(folder.path().join("two\nlines"));
        assert!(lines.contains("two\\nlines") && lines.contains("control character"), "{lines}");
        let deep = (0..5).fold(folder.path().to_owned(), |path, _| path.join("y".repeat(200)));
        assert!(refused(deep).contains("bytes, at most 900"));
    }
}
