//! What can go wrong with the log. Names the value and the remedy; recovers nothing.

use std::path::{Path, PathBuf};

use hm_domain::id::{Digest, RunId};
use hm_domain::plugin::STATE_BYTES_MAX;

/// Digests by as many digits as tell them apart in practice.
fn listed(plugins: &[Digest]) -> String {
    plugins.iter().map(Digest::short).collect::<Vec<_>>().join(", ")
}

/// Every error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No PostgreSQL is installed.
    #[error(
        "no PostgreSQL found: install it (`apt-get install postgresql`), name its binaries in PG_BIN, or set DATABASE_URL"
    )]
    NoPostgres,
    /// A PostgreSQL program failed.
    #[error("`{program}` failed: {message}")]
    Program {
        /// Which one.
        program: String,
        /// What it said.
        message: String,
    },
    /// No place for the private cluster.
    #[error("no data directory: set HOME or name one")]
    NoDataDirectory,
    /// A file or folder.
    #[error("{path}: {source}")]
    File {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A data folder in which no cluster can be.
    #[error("no private database can be in {}: {why}; name another folder with --data-dir or HM_DATA_DIR, or a server in DATABASE_URL", shown(.folder))]
    BadFolder {
        /// The data folder.
        folder: PathBuf,
        /// Why not.
        why: String,
    },
    /// `DATABASE_URL` names no database of ours.
    #[error(
        "DATABASE_URL is {url}: {why}; mend it, such as postgres://user:password@host/database, or unset it for a private database"
    )]
    BadUrl {
        /// What it is, less its password.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The database has no connection left for this program.
    #[error(
        "no connection to the database: {0}; end other programs that use it, or let this user have more connections"
    )]
    NoConnection(String),
    /// The database lets nobody know what it does.
    #[error("the database has not answered for {0} s: look after its server")]
    Silent(u64),
    /// The database or the way to it. The text holds its cause: what the driver adds says it again.
    #[error("database: {}", said(.0))]
    Database(sqlx::Error),
    /// The tables could not be brought up to date.
    #[error("the tables of the database cannot be brought up to date: {0}")]
    Migration(String),
    /// Only the tables' owner can.
    #[error(
        "the tables of the database are not those of this program, and this role may not change them ({0}): let \
         their owner run `hm db migrate`"
    )]
    NotTheOwner(String),
    /// Others use the tables.
    #[error(
        "the tables of the database cannot be brought up to date while others use them: end the workers and \
         readers that hold them, and try again"
    )]
    TablesInUse,
    /// Nothing to read.
    #[error(
        "the database has no tables of this program yet: `hm train` makes them, or `hm db migrate`"
    )]
    NoTables,
    /// Tables of an older program.
    #[error(
        "the tables of the database are of version {made}, this program reads {ours}: end the workers and bring \
         them up to date with `hm db migrate`"
    )]
    OlderTables {
        /// Their version.
        made: i64,
        /// The version that this program knows.
        ours: i64,
    },
    /// Tables of a newer program.
    #[error(
        "the tables of the database are of version {made}, and this program knows none above {ours}: use the \
         program that made them, or a newer one"
    )]
    NewerTables {
        /// Their version.
        made: i64,
        /// The version that this program knows.
        ours: i64,
    },
    /// No stream of this id.
    #[error("run {0} is not in this database")]
    NoRun(RunId),
    /// An unfinished run has the name.
    #[error(
        "run {name} ({run_id}) is unfinished, last held by {holder}: train that one, or take another name, or start \
         another run of this one with `hm train --new`"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// The run that has it.
        run_id: RunId,
        /// Host and process.
        holder: String,
    },
    /// Another worker owns the run.
    #[error("run {run_id} is held by {holder}: stop that worker first")]
    Held {
        /// The run.
        run_id: RunId,
        /// Host and process.
        holder: String,
    },
    /// Another worker owned the run a moment ago.
    #[error(
        "{holder} had run {run_id} a moment ago and may come back: stop that worker first, or wait {seconds} s, \
         after which it counts as dead"
    )]
    MayComeBack {
        /// The run.
        run_id: RunId,
        /// Host and process.
        holder: String,
        /// How long it is waited for.
        seconds: u64,
    },
    /// ES001.
    #[error("run {0} is finished and takes no more events")]
    Sealed(RunId),
    /// ES002.
    #[error("another worker took the run over: {0}")]
    Fenced(String),
    /// ES003.
    #[error("the log is not where this worker left it: {0}")]
    Conflict(String),
    /// ES004.
    #[error("bad batch: {0}")]
    BadBatch(String),
    /// Bytes that are no event.
    #[error("event of kind {kind}, version {version} does not decode: {message}")]
    Undecodable {
        /// Kind number.
        kind: u16,
        /// Schema version.
        version: u16,
        /// Why.
        message: String,
    },
    /// Something read back is not what was promised.
    #[error("{0}")]
    Corrupt(String),
    /// A file or folder of an archive that does not serve.
    #[error("{}: {reason}", shown(.path))]
    Archive {
        /// Where.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A run that is to be restored is there.
    #[error("run {0} is in this database already: nothing is restored over it")]
    AlreadyThere(RunId),
    /// A run that others need, or that may go on, is not dropped.
    #[error("run {run_id} stays in the database: {why}")]
    NotDropped {
        /// The run.
        run_id: RunId,
        /// Why, and what to do.
        why: String,
    },
    /// More than one plugin matches.
    #[error("{} plugins are called `{wanted}`: {}; name one by its digest", plugins.len(), listed(plugins))]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// Their digests, the one installed last first.
        plugins: Vec<Digest>,
    },
    /// A plugin state over the limit.
    #[error("{0} bytes of plugin state: at most {STATE_BYTES_MAX} are kept")]
    StateTooLarge(usize),
    /// The journal tried for as long as it was told to.
    #[error(
        "the log could not be written for {patience_s} s ({last}): {events} events from seq {from_seq} on may not be \
         on disk. Bring the database back and start the run again: it goes on from its last checkpoint"
    )]
    Unreachable {
        /// How long it tried, in seconds.
        patience_s: u64,
        /// What the last attempt said.
        last: String,
        /// Events that wait.
        events: usize,
        /// The first of them.
        from_seq: u64,
    },
    /// The journal ended earlier, for the reason given.
    #[error("the journal has stopped: {0}")]
    JournalStopped(String),
}

/// The server's own words where they are its words, else the driver's.
fn said(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(refusal) => refusal.message().to_owned(),
        other => other.to_string(),
    }
}

/// A path on one line, whatever it is made of.
fn shown(path: &Path) -> String {
    path.to_string_lossy()
        .chars()
        .flat_map(|c| match c {
            c if c.is_control() => c.escape_default().collect::<Vec<_>>(),
            c => vec![c],
        })
        .collect()
}

/// SQLSTATE of a server that has no connection left, for this user or for anybody.
const TOO_MANY_CONNECTIONS: &str = "53300";

/// SQLSTATEs, or how they begin, of refusals that pass. 08: connection; 25P03, 25P04: a transaction that
/// took too long; 40: deadlock, serialisation; 53: out of something; 55P03: a lock that is not free; 57: the
/// server goes down, the session or the statement was ended; 58030: the disk.
const PASSING: [&str; 8] = ["08", "25P03", "25P04", "40", "53", "55P03", "57", "58030"];

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        let code = error.as_database_error().and_then(|refusal| refusal.code());
        match &error {
            _ if code.as_deref() == Some(TOO_MANY_CONNECTIONS) => {
                StoreError::NoConnection(said(&error))
            }
            sqlx::Error::PoolTimedOut => StoreError::NoConnection(
                "none became free in ten seconds, and the server gives no more".to_owned(),
            ),
            _ => StoreError::Database(error),
        }
    }
}

/// Result of this crate.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

impl StoreError {
    /// Sorts an append's refusals by their SQLSTATE.
    pub(crate) fn of_append(run_id: RunId, error: sqlx::Error) -> StoreError {
        let Some(refusal) = error.as_database_error() else { return error.into() };
        let message = refusal.message().to_owned();
        match refusal.code().as_deref() {
            Some("P0002") => StoreError::NoRun(run_id),
            Some("ES001") => StoreError::Sealed(run_id),
            Some("ES002") => StoreError::Fenced(message),
            Some("ES003") => StoreError::Conflict(message),
            Some("ES004") => StoreError::BadBatch(message),
            // Not there any more: a newer program has changed the tables under this one.
            Some("42883" | "42703" | "42P01") => StoreError::Migration(format!(
                "{message}; a newer program has changed them while this one ran: go on with that one"
            )),
            _ => error.into(),
        }
    }

    /// Whether another's lock was in the way.
    pub(crate) fn is_locked_out(&self) -> bool {
        let StoreError::Database(sqlx::Error::Database(refusal)) = self else { return false };
        matches!(refusal.code().as_deref(), Some("55P03" | "40P01"))
    }

    /// Whether trying again on a new connection, or later, can help.
    pub(crate) fn may_pass(&self) -> bool {
        let StoreError::Database(error) = self else {
            return matches!(self, StoreError::NoConnection(_) | StoreError::Silent(_));
        };
        match error {
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
            sqlx::Error::PoolClosed => true,
            sqlx::Error::Database(refusal) => {
                refusal.code().is_some_and(|code| PASSING.iter().any(|own| code.starts_with(own)))
            }
            _ => false,
        }
    }
}
