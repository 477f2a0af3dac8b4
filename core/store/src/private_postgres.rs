//! A PostgreSQL cluster of our own, from the binaries that are installed: found, made, started, stopped.
//!
//! It listens on a socket in a private folder and on nothing else. It stays up when the process that
//! started it ends: other workers may use it. It downloads nothing and upgrades nothing.

mod folder;
pub(crate) mod named_url;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User};

use self::folder::{bad, closed_to};
use crate::error::{Result, StoreError};

/// How long a server may take to come up; after a crash it reads its own log first.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// The URL of the database: `DATABASE_URL` if set, else that of a private cluster under `data_dir`.
pub fn database_url(data_dir: &Path) -> Result<String> {
    match named_url::named()? {
        Some(url) => Ok(url),
        None => Ok(PrivatePostgres::start(data_dir)?.url().to_owned()),
    }
}

/// Whether that is the private one.
pub fn database_is_private() -> bool {
    matches!(named_url::named(), Ok(None))
}

/// How a database that is gone comes back, as the end of a sentence; nothing where a person has named it.
pub(crate) fn revival() -> &'static str {
    match database_is_private() {
        true => "; any `hm` command, such as `hm runs ls`, starts the private database again",
        false => "",
    }
}

/// A database as it stands, for those who only look.
#[derive(Debug)]
pub enum Standing {
    /// There is none, and so nothing in it.
    Nowhere,
    /// There is one that cannot be looked into now; why, in a sentence.
    Closed(String),
    /// Where to connect.
    Open(String),
}

/// What [`database_url`] would name; starts, makes and mends nothing.
pub fn database_as_it_stands(data_dir: &Path) -> Result<Standing> {
    if let Some(url) = named_url::named()? {
        return Ok(Standing::Open(url));
    }
    if !data_dir.join("postgres/PG_VERSION").exists() {
        return Ok(Standing::Nowhere);
    }
    Ok(match PrivatePostgres::url_in(data_dir)? {
        Some(url) => Standing::Open(url),
        None => Standing::Closed("the private database is not running".to_owned()),
    })
}

/// Where to connect to a cluster of ours. Its sockets lie in a folder with a plain name. The port
/// stands here since the environment of a client may name another.
fn url_of(sockets: &Path) -> String {
    let sockets = sockets.display();
    format!("postgres://heurimentor@localhost/postgres?host={sockets}&port=5432")
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
    owner: Option<User>,
    url: String,
}

impl PrivatePostgres {
    /// Makes the cluster under `data_dir` if there is none and starts it if it is not running.
    pub fn start(data_dir: &Path) -> Result<PrivatePostgres> {
        let binaries = find_binaries().ok_or(StoreError::NoPostgres)?;
        let owner = owner()?;
        let data_dir = folder::data_folder(data_dir, owner.as_ref())?;
        let _lock = lock(&data_dir)?;
        let cluster = data_dir.join("postgres");
        let mut postgres = PrivatePostgres { binaries, cluster, owner, url: String::new() };
        if !postgres.cluster.join("PG_VERSION").exists() {
            postgres.initialise(&data_dir)?;
        }
        let sockets = match postgres.sockets_of_running()? {
            Some(sockets) => sockets,
            None => {
                let sockets = folder::socket_folder(&data_dir, postgres.owner.as_ref())?;
                postgres.launch(&sockets)?;
                sockets
            }
        };
        postgres.url = url_of(&sockets);
        Ok(postgres)
    }

    /// Where to connect.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where to connect to the cluster under `data_dir`, if there is one and it runs. Starts nothing.
    pub fn url_in(data_dir: &Path) -> Result<Option<String>> {
        let cluster = data_dir.join("postgres");
        if !cluster.join("PG_VERSION").exists() {
            return Ok(None);
        }
        let cluster = cluster.canonicalize().map_err(|source| at(&cluster, source))?;
        let (binaries, owner, url) = (PathBuf::new(), None, String::new());
        let found = PrivatePostgres { binaries, cluster, owner, url };
        Ok(found.running().map(|sockets| url_of(&sockets)))
    }

    /// Stops the cluster, ending open sessions.
    pub fn stop(&self) -> Result<()> {
        if self.sockets_of_running()?.is_none() {
            return Ok(());
        }
        let options = ["stop", "-w", "-m", "fast", "-D"].map(OsStr::new);
        self.run("pg_ctl", &[&options[..], &[self.cluster.as_os_str()]].concat())
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

    /// Made under another name and then renamed: whoever is interrupted leaves no half of a cluster.
    fn initialise(&self, data_dir: &Path) -> Result<()> {
        let part = data_dir.join("postgres.part");
        if part.exists() {
            fs::remove_dir_all(&part).map_err(|source| at(&part, source))?;
        }
        folder::make_private(&part, self.owner.as_ref())?;
        // Trust is enough: the socket's folder lets only its owner in.
        let options = ["-U", "heurimentor", "-A", "trust", "-E", "UTF8", "--no-locale", "-k", "-D"];
        let arguments = [&options.map(OsStr::new)[..], &[part.as_os_str()]].concat();
        self.run("initdb", &arguments)?;
        fs::rename(&part, &self.cluster)
            .map_err(|error| bad(data_dir, format!("{}: {error}", self.cluster.display())))
    }

    /// Starts the server itself, not through `pg_ctl`: that would hand the paths to a shell.
    fn launch(&self, sockets: &Path) -> Result<()> {
        // Of a server that was killed: this one is known not to run, and the folder is its alone.
        let leftover = sockets.join(".s.PGSQL.5432.lock");
        if leftover.exists() {
            fs::remove_file(&leftover).map_err(|source| at(&leftover, source))?;
        }
        let log = self.cluster.join("server.log");
        let mut options = File::options();
        // The folder is another user's where this one is root: no link of theirs is followed.
        options.create(true).append(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
        let log = options.open(&log).map_err(|source| at(&log, source))?;
        let said = log.try_clone().map_err(|source| at(&self.cluster, source))?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(&self.cluster).args(["-p", "5432", "-c", "listen_addresses="]);
        command.arg("-c").arg(format!("unix_socket_directories={}", sockets.display()));
        for setting in [
            "unix_socket_permissions=0700",
            "fsync=on",
            "synchronous_commit=on",
            "full_page_writes=on",
            "max_connections=200",
        ] {
            command.args(["-c", setting]);
        }
        // A group of its own: Ctrl-C in this terminal is not meant for it.
        command.process_group(0).stdin(std::process::Stdio::null()).stdout(said).stderr(log);
        let server = command.spawn().map_err(|error| failed("postgres", error.to_string()))?;
        self.wait_until_ready(server)
    }

    fn wait_until_ready(&self, mut server: Child) -> Result<()> {
        let begun = Instant::now();
        loop {
            if let Ok(Some(status)) = server.try_wait() {
                return Err(self.explain("postgres", format!("it ended with {status}")));
            }
            let lines = self.pid_file();
            let own = lines.first().is_some_and(|pid| *pid == server.id().to_string());
            if own && lines.get(7).is_some_and(|status| status.starts_with("ready")) {
                break;
            }
            if begun.elapsed() > START_PATIENCE {
                return Err(self.explain("postgres", "it is not ready after a minute".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // Should it end before this process does, somebody has to take note of it.
        std::thread::spawn(move || server.wait());
        Ok(())
    }

    /// Lines of the cluster's pid file: process, cluster, start, port, sockets, address, memory, status.
    fn pid_file(&self) -> Vec<String> {
        let text = fs::read(self.cluster.join("postmaster.pid")).unwrap_or_default();
        // The second line is the cluster's path, in whatever bytes.
        String::from_utf8_lossy(&text).lines().map(|line| line.trim().to_owned()).collect()
    }

    /// The folder of the running server's socket: none where the process named in the cluster's pid
    /// file is not this cluster's server.
    fn running(&self) -> Option<PathBuf> {
        let lines = self.pid_file();
        let pid = lines.first().and_then(|line| line.parse::<i32>().ok())?;
        let sockets = lines.get(4)?;
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
        (alive && !elsewhere).then(|| PathBuf::from(sockets))
    }

    /// The same; removes a pid file whose process is gone or is another one that got the same number.
    fn sockets_of_running(&self) -> Result<Option<PathBuf>> {
        let running = self.running();
        let lines = self.pid_file();
        let names_one = lines.first().is_some_and(|line| line.parse::<i32>().is_ok());
        if running.is_none() && names_one && lines.get(4).is_some() {
            let file = self.cluster.join("postmaster.pid");
            fs::remove_file(&file).map_err(|source| at(&file, source))?;
        }
        Ok(running)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command.current_dir("/").env("LC_ALL", "C");
        if let Some(user) = &self.owner {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    fn run(&self, program: &str, arguments: &[&OsStr]) -> Result<()> {
        let output = self.command(program).args(arguments).output();
        let output = output.map_err(|error| failed(program, error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        // The last lines say what went wrong, those before what went well.
        let lines: Vec<&str> = said.lines().filter(|line| line.contains("error")).collect();
        let said = if lines.is_empty() { said.trim().to_owned() } else { lines.join("; ") };
        Err(self.explain(program, said))
    }

    /// Why a program failed: a folder that is closed to the server's user, or its own last words.
    fn explain(&self, program: &str, said: String) -> StoreError {
        if let Some(why) = closed_to(self.owner.as_ref(), &self.cluster) {
            return bad(self.cluster.parent().unwrap_or(&self.cluster), why);
        }
        let log = fs::read(self.cluster.join("server.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        match log.lines().rev().find(|line| line.contains("FATAL")) {
            Some(line) => failed(program, format!("{said} ({line})")),
            None => failed(program, said),
        }
    }
}

fn failed(program: &str, message: String) -> StoreError {
    StoreError::Program { program: program.to_owned(), message }
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
fn owner() -> Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let found = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
    let nobody = "it refuses to run as root, and there is neither a user postgres nor nobody";
    found.map(Some).ok_or_else(|| failed("initdb", nobody.to_owned()))
}

/// Held while one process looks at the cluster and starts it: a second one waits.
fn lock(data_dir: &Path) -> Result<File> {
    let locked = File::create(data_dir.join("postgres.lock")).and_then(|file| {
        file.lock()?;
        Ok(file)
    });
    locked.map_err(|error| bad(data_dir, error.to_string()))
}

fn at(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::File { path: path.to_owned(), source }
}
