//! A private PostgreSQL in a temporary folder, and a database per test.
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use hm_domain::event::Event;
use hm_domain::id::RunId;
use hm_store::{Namesakes, PrivatePostgres, Put, Store, WriterLease};
use nix::sys::signal::Signal;
use sqlx::{Connection as _, Row as _};

/// The run of a test.
pub(crate) const RUN: RunId = RunId(uuid::Uuid::from_u128(7));

/// A server that can be stopped and started again.
pub(crate) struct Cluster {
    pub(crate) postgres: PrivatePostgres,
    pub(crate) folder: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A test that failed has said why already.
        let _ = self.postgres.stop();
    }
}

impl Cluster {
    /// A server of its own.
    pub(crate) fn start() -> Cluster {
        let folder = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let postgres = PrivatePostgres::start(folder.path()).unwrap();
        Cluster { postgres, folder }
    }

    /// Starts it again after a stop or a crash.
    pub(crate) fn restart(&self) {
        let postgres = PrivatePostgres::start(self.folder.path()).unwrap();
        assert_eq!(postgres.url(), self.postgres.url());
    }

    /// Ends the server without a word to anybody and without a last checkpoint, as a crash does.
    pub(crate) fn crash(&self) {
        self.signal(Signal::SIGQUIT);
        while self.pid_file().exists() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Ends it so that it cannot even remove its pid file.
    pub(crate) fn kill(&self) {
        let children = self.children();
        self.signal(Signal::SIGKILL);
        // Its children notice, and let go of its memory.
        while children.iter().any(|&child| is_alive(child)) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Stops answering, as a machine does that hangs, until [`Cluster::thaw`].
    pub(crate) fn freeze(&self) {
        self.signal_all(Signal::SIGSTOP);
    }

    /// Answers again.
    pub(crate) fn thaw(&self) {
        self.signal_all(Signal::SIGCONT);
    }

    fn signal_all(&self, signal: Signal) {
        for pid in self.children() {
            // One that has just ended needs none.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
        }
        self.signal(signal);
    }

    /// The file that names the server's process.
    pub(crate) fn pid_file(&self) -> std::path::PathBuf {
        self.folder.path().join("postgres/postmaster.pid")
    }

    fn pid(&self) -> i32 {
        let text = std::fs::read_to_string(self.pid_file()).unwrap();
        text.lines().next().unwrap().parse().unwrap()
    }

    /// Processes that the server started.
    fn children(&self) -> Vec<i32> {
        let parent = self.pid();
        let all = std::fs::read_dir("/proc").unwrap();
        let pids = all.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        pids.filter(|&pid| status(pid).is_some_and(|(_, of)| of == parent)).collect()
    }

    fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }
}

/// State and parent of a process, if there is one (Linux).
fn status(pid: i32) -> Option<(String, i32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in brackets, may hold anything.
    let mut after_name = text.rsplit_once(") ")?.1.split(' ');
    Some((after_name.next()?.to_owned(), after_name.next()?.parse().ok()?))
}

/// Whether a process has not ended; one that nobody has buried yet has.
fn is_alive(pid: i32) -> bool {
    status(pid).is_some_and(|(state, _)| state != "Z" && state != "X")
}

/// One server as long as any test uses it.
fn shared() -> Arc<Cluster> {
    static CLUSTER: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut slot = CLUSTER.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(cluster) = slot.upgrade() {
        return cluster;
    }
    let cluster = Arc::new(Cluster::start());
    *slot = Arc::downgrade(&cluster);
    cluster
}

/// A database of its own.
pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) admin: sqlx::PgConnection,
    pub(crate) cluster: Arc<Cluster>,
}

/// A database on the shared server.
pub(crate) async fn bench() -> Bench {
    bench_on(tokio::task::spawn_blocking(shared).await.unwrap()).await
}

/// A database on this server.
pub(crate) async fn bench_on(cluster: Arc<Cluster>) -> Bench {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("t{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let mut root = sqlx::PgConnection::connect(cluster.postgres.url()).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("create database {name}")))
        .execute(&mut root)
        .await
        .unwrap();
    let url = cluster.postgres.url().replace("/postgres?", &format!("/{name}?"));
    let store = Store::connect(&url, 4).await.unwrap();
    let admin = sqlx::PgConnection::connect(&url).await.unwrap();
    Bench { store, admin, cluster }
}

impl Bench {
    /// Begins the run of a test.
    pub(crate) async fn begin(&self, started: Event) -> WriterLease {
        self.store.start_run(RUN, "test", Namesakes::Refused, started).await.unwrap()
    }

    /// Puts a wish into the inbox of the test's run; its number.
    pub(crate) async fn put(&self, kind: &str) -> u64 {
        let body = serde_json::json!({ "command": kind });
        match self.store.put_command(RUN, kind, &body, "me").await.unwrap() {
            Put::Waits(number) => number,
            Put::Full(waiting) => panic!("{waiting} wait already"),
            Put::Ended => panic!("the run has ended"),
        }
    }

    /// Executes, as the owner of the database.
    pub(crate) async fn sql(&mut self, text: &str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(sqlx::AssertSqlSafe(text.to_owned()))
            .execute(&mut self.admin)
            .await
            .map(|_| ())
    }

    /// Rows as JSON texts, sorted.
    pub(crate) async fn rows(&mut self, query: &str) -> Vec<String> {
        let text = format!("select to_jsonb(t)::text as j from ({query}) t order by 1");
        let rows = sqlx::query(sqlx::AssertSqlSafe(text)).fetch_all(&mut self.admin).await.unwrap();
        rows.iter().map(|row| row.get("j")).collect()
    }
}
