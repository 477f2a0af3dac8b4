//! A PostgreSQL cluster of our own, from the binaries that are installed: found, made, started, stopped.
//!
//! It listens on a socket in a private folder and on nothing else. It stays up when the process that
//! started it ends: other workers may use it. It downloads nothing and upgrades nothing.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid, User};
use sha2::{Digest as _, Sha256};

use crate::error::{Result, StoreError};

/// Longest folder that leaves room for `/.s.PGSQL.5432` within a socket path's 107 bytes.
const SOCKET_FOLDER_BYTES_MAX: usize = 90;

/// The URL of the database: `DATABASE_URL` if set, else that of a private cluster under `data_dir`.
pub fn database_url(data_dir: &Path) -> Result<String> {
    match std::env::var("DATABASE_URL") {
        Ok(url) if !url.is_empty() => Ok(url),
        _ => Ok(PrivatePostgres::start(data_dir)?.url().to_owned()),
    }
}

/// Whether there is a database to read without making one.
pub fn database_exists(data_dir: &Path) -> bool {
    std::env::var_os("DATABASE_URL").is_some_and(|url| !url.is_empty())
        || data_dir.join("postgres/PG_VERSION").exists()
}

/// `~/.local/share/heurimentor`, or `/var/lib/heurimentor` for root.
pub fn default_data_dir() -> Result<PathBuf> {
    if Uid::effective().is_root() {
        return Ok(PathBuf::from("/var/lib/heurimentor"));
    }
    if let Some(folder) = std::env::var_os("XDG_DATA_HOME").filter(|folder| !folder.is_empty()) {
        return Ok(PathBuf::from(folder).join("heurimentor"));
    }
    let home = std::env::var_os("HOME").ok_or(StoreError::NoDataDirectory)?;
    Ok(PathBuf::from(home).join(".local/share/heurimentor"))
}

/// A running private cluster. Dropping this leaves it running.
#[derive(Debug)]
pub struct PrivatePostgres {
    binaries: PathBuf,
    cluster: PathBuf,
    owner: Option<(Uid, Gid)>,
    url: String,
}

impl PrivatePostgres {
    /// Makes the cluster under `data_dir` if there is none and starts it if it is not running.
    pub fn start(data_dir: &Path) -> Result<PrivatePostgres> {
        let binaries = find_binaries().ok_or(StoreError::NoPostgres)?;
        let owner = owner()?;
        make_folder(data_dir, 0o755, owner)?;
        let data_dir = data_dir.canonicalize().map_err(|source| at(data_dir, source))?;
        let _lock = lock(&data_dir.join("postgres.lock"))?;
        let cluster = data_dir.join("postgres");
        make_folder(&cluster, 0o700, owner)?;
        let sockets = socket_folder(&data_dir);
        make_folder(&sockets, 0o700, owner)?;
        let url = format!(
            "postgres://heurimentor@localhost/postgres?host={}",
            percent_encode(&sockets.to_string_lossy())
        );
        let postgres = PrivatePostgres { binaries, cluster, owner, url };
        if !postgres.cluster.join("PG_VERSION").exists() {
            postgres.initialise()?;
        }
        if !postgres.is_running()? {
            postgres.launch(&sockets)?;
        }
        Ok(postgres)
    }

    /// Where to connect.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops the cluster, ending open sessions.
    pub fn stop(&self) -> Result<()> {
        if !self.is_running()? {
            return Ok(());
        }
        self.run("pg_ctl", &["stop", "-w", "-m", "fast", "-D", &self.cluster.to_string_lossy()])
    }

    /// Stops the cluster under `data_dir`, if there is one and it runs.
    pub fn stop_in(data_dir: &Path) -> Result<()> {
        let cluster = data_dir.join("postgres");
        if !cluster.join("PG_VERSION").exists() {
            return Ok(());
        }
        let cluster = cluster.canonicalize().map_err(|source| at(&cluster, source))?;
        let binaries = find_binaries().ok_or(StoreError::NoPostgres)?;
        PrivatePostgres { binaries, cluster, owner: owner()?, url: String::new() }.stop()
    }

    fn initialise(&self) -> Result<()> {
        let cluster = self.cluster.to_string_lossy();
        // Trust is enough: the socket's folder lets only its owner in.
        let options = ["-U", "heurimentor", "-A", "trust", "-E", "UTF8", "--no-locale", "-k", "-D"];
        let mut arguments = options.to_vec();
        arguments.push(&cluster);
        self.run("initdb", &arguments)
    }

    fn launch(&self, sockets: &Path) -> Result<()> {
        let options = format!(
            "-c listen_addresses= -c unix_socket_directories='{}' -c unix_socket_permissions=0700 \
             -c fsync=on -c synchronous_commit=on -c full_page_writes=on -c max_connections=200",
            sockets.display()
        );
        // Of a server that was killed: this one is known not to run, and the folder is its alone.
        let leftover = sockets.join(".s.PGSQL.5432.lock");
        if leftover.exists() {
            fs::remove_file(&leftover).map_err(|source| at(&leftover, source))?;
        }
        let log = self.cluster.join("server.log");
        let (cluster, log) = (self.cluster.to_string_lossy(), log.to_string_lossy());
        self.run(
            "pg_ctl",
            &["start", "-w", "-t", "60", "-s", "-D", &cluster, "-l", &log, "-o", &options],
        )
    }

    /// Whether the process named in the cluster's pid file is this cluster's server. Removes the file
    /// when that process is gone or is another one that got the same number.
    fn is_running(&self) -> Result<bool> {
        let file = self.cluster.join("postmaster.pid");
        let Ok(text) = fs::read_to_string(&file) else { return Ok(false) };
        let Some(pid) = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()) else {
            return Ok(false);
        };
        let alive = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None)
            != Err(nix::errno::Errno::ESRCH);
        // A server's working folder is its cluster, and one that has ended but is not yet buried has
        // none (Linux; elsewhere a live process is believed).
        let elsewhere = match fs::read_link(format!("/proc/{pid}/cwd")) {
            Ok(folder) => folder != self.cluster,
            Err(error) => {
                error.kind() == std::io::ErrorKind::NotFound && Path::new("/proc/self").exists()
            }
        };
        if alive && !elsewhere {
            return Ok(true);
        }
        fs::remove_file(&file).map_err(|source| at(&file, source))?;
        Ok(false)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(self.binaries.join(program));
        command.args(arguments).current_dir("/").env("LC_ALL", "C");
        if let Some((user, group)) = self.owner {
            command.uid(user.as_raw()).gid(group.as_raw());
        }
        let failed = |message: String| StoreError::Program { program: program.to_owned(), message };
        let output = command.output().map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let mut message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let log = fs::read_to_string(self.cluster.join("server.log")).unwrap_or_default();
        if let Some(line) = log.lines().rev().find(|line| line.contains("FATAL")) {
            message = format!("{message} ({line})");
        }
        Err(failed(message))
    }
}

/// The folder that holds `initdb`, `pg_ctl` and `postgres`.
fn find_binaries() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::env::var_os("PG_BIN").map(PathBuf::from).into_iter().collect();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        folders.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_string_lossy().parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    folders.extend(versions.into_iter().rev().map(|(_, folder)| folder));
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let complete = |folder: &PathBuf| {
        ["initdb", "pg_ctl", "postgres"].iter().all(|name| folder.join(name).is_file())
    };
    // Through links: a program looks for its companions beside its real file.
    folders
        .into_iter()
        .find(complete)?
        .join("postgres")
        .canonicalize()
        .ok()?
        .parent()
        .map(Path::to_owned)
}

/// Who runs the server: PostgreSQL refuses to run as root, so root drops to another user.
fn owner() -> Result<Option<(Uid, Gid)>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let found = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
    let user = found.ok_or_else(|| StoreError::Program {
        program: "initdb".to_owned(),
        message: "it refuses to run as root, and there is neither a user postgres nor nobody"
            .to_owned(),
    })?;
    Ok(Some((user.uid, user.gid)))
}

fn make_folder(folder: &Path, mode: u32, owner: Option<(Uid, Gid)>) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(mode).create(folder).map_err(|e| at(folder, e))?;
    // The process's umask may have taken more away than was meant.
    fs::set_permissions(folder, fs::Permissions::from_mode(mode)).map_err(|e| at(folder, e))?;
    if let Some((user, group)) = owner {
        nix::unistd::chown(folder, Some(user), Some(group)).map_err(|e| at(folder, e.into()))?;
    }
    Ok(())
}

/// Under the data folder where that is short enough, else a folder named after it in /tmp.
fn socket_folder(data_dir: &Path) -> PathBuf {
    let folder = data_dir.join("socket");
    if folder.as_os_str().len() <= SOCKET_FOLDER_BYTES_MAX {
        return folder;
    }
    let digest = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
    let name: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    PathBuf::from(format!("/tmp/heurimentor-{name}"))
}

/// Held while one process looks at the cluster and starts it: a second one waits.
fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).map_err(|source| at(path, source))?;
    file.lock().map_err(|source| at(path, source))?;
    Ok(file)
}

fn at(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::File { path: path.to_owned(), source }
}

fn percent_encode(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_paths_stay_within_their_limit() {
        let long = PathBuf::from(format!("/{}", "x".repeat(200)));
        assert!(socket_folder(&long).as_os_str().len() <= SOCKET_FOLDER_BYTES_MAX);
        assert_eq!(socket_folder(Path::new("/a")), Path::new("/a/socket"));
    }
}
