//! How sessions with the log's database begin: what they ask of the server, and whether its tables are
//! those of this program. Only who writes may bring them up to date.

use std::str::FromStr as _;
use std::time::{Duration, Instant};

use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::timeout;

use crate::error::{Result, StoreError};
use crate::private_postgres::named_url::told;
use crate::store::Store;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// How long a connection is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a first connection that is refused is tried for again.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);
/// How long a migration waits for a lock while others use the tables. Whoever comes after it waits too.
const MIGRATION_LOCK: &str = "3s";
/// How often it is tried again before that is told.
const MIGRATION_ATTEMPTS: u32 = 5;

/// What every session asks for.
const SESSION: [(&str, &str); 6] = [
    // A server may be set to lazy commits for other users; the log never is.
    ("synchronous_commit", "on"),
    // One plan for every run would open and lock the partitions of all of them.
    ("plan_cache_mode", "force_custom_plan"),
    // A worker whose machine has vanished holds its run's lock until the server knows.
    ("tcp_keepalives_idle", "15"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "30000"),
];

/// What there is of this program's tables.
enum Tables {
    /// Nothing at all.
    Missing,
    /// Those of an older program; by the number of its last migration.
    Older(i64),
    /// These.
    Ours,
    /// Those of a newer program, or of another.
    Newer(i64),
}

impl Tables {
    async fn of(connection: &mut PgConnection) -> Result<Tables> {
        let known: Option<String> =
            sqlx::query_scalar("select to_regclass('_sqlx_migrations')::text")
                .fetch_one(&mut *connection)
                .await?;
        if known.is_none() {
            return Ok(Tables::Missing);
        }
        let made = "select version from _sqlx_migrations where success order by version";
        let made: Vec<i64> = sqlx::query_scalar(made).fetch_all(connection).await?;
        let ours: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
        Ok(match made.last() {
            None => Tables::Missing,
            Some(_) if made == ours => Tables::Ours,
            Some(last) if ours.starts_with(&made) => Tables::Older(*last),
            Some(last) => Tables::Newer(*last),
        })
    }
}

/// The last migration of this program.
fn ours() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

impl Store {
    /// Connects to `url` to write, brings older tables up to date, and keeps at most `connections_max`
    /// open. Where they are up to date already it needs no right to change them.
    ///
    /// The first connection is made by itself: where it is refused, the server says why, and a pool
    /// would say only that it has waited.
    pub async fn connect(url: &str, connections_max: u32) -> Result<Store> {
        let (options, mut first) = reach(url).await.map_err(|error| told(url, error))?;
        match Tables::of(&mut first).await? {
            Tables::Ours => {}
            Tables::Missing | Tables::Older(_) => migrate(&mut first).await?,
            Tables::Newer(made) => return Err(StoreError::NewerTables { made, ours: ours() }),
        }
        first.close().await?;
        Ok(Store::over(options, connections_max))
    }

    /// Connects to read: the right to read is enough, and the server refuses to write.
    ///
    /// # Errors
    /// [`StoreError::NoTables`], [`StoreError::OlderTables`] or [`StoreError::NewerTables`] where the tables
    /// are not those of this program.
    pub async fn connect_to_read(url: &str, connections_max: u32) -> Result<Store> {
        let (options, mut first) = reach(url).await.map_err(|error| told(url, error))?;
        match Tables::of(&mut first).await? {
            Tables::Ours => {}
            Tables::Missing => return Err(StoreError::NoTables),
            Tables::Older(made) => return Err(StoreError::OlderTables { made, ours: ours() }),
            Tables::Newer(made) => return Err(StoreError::NewerTables { made, ours: ours() }),
        }
        first.close().await?;
        let options = options.options([("default_transaction_read_only", "on")]);
        Ok(Store::over(options, connections_max))
    }

    /// Connects to look and writes nothing: none where the tables are not those of this program.
    pub async fn connect_to_look(url: &str) -> Result<Option<Store>> {
        let (options, mut first) = reach(url).await.map_err(|error| told(url, error))?;
        let tables = Tables::of(&mut first).await?;
        first.close().await?;
        Ok(matches!(tables, Tables::Ours).then(|| Store::over(options, 1)))
    }

    fn over(options: PgConnectOptions, connections_max: u32) -> Store {
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(PATIENCE)
            .connect_lazy_with(options.clone());
        Store { pool, options }
    }
}

/// Brings the tables up to date. Each step waits a little for those who use the tables, and then lets
/// them pass before it tries again: whoever waits for a table holds up all that come after.
async fn migrate(connection: &mut PgConnection) -> Result<()> {
    let set = format!("set lock_timeout = '{MIGRATION_LOCK}'");
    sqlx::raw_sql(sqlx::AssertSqlSafe(set)).execute(&mut *connection).await?;
    let mut attempts = 1;
    loop {
        let error = match MIGRATIONS.run(&mut *connection).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let code = match &error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                error.as_database_error().and_then(|refusal| refusal.code())
            }
            _ => None,
        };
        match code.as_deref() {
            Some("55P03") if attempts < MIGRATION_ATTEMPTS => {
                attempts += 1;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Some("55P03") => return Err(StoreError::TablesInUse),
            Some("42501") => return Err(StoreError::NotTheOwner(error.to_string())),
            _ => return Err(StoreError::Migration(error.to_string())),
        }
    }
}

/// How to connect, and a first connection.
async fn reach(url: &str) -> Result<(PgConnectOptions, PgConnection)> {
    let options = PgConnectOptions::from_str(url)?.application_name("heurimentor").options(SESSION);
    let first = first_connection(&options).await?;
    Ok((options, first))
}

/// A first connection. A server that is starting, or that has not yet noticed the end of an earlier
/// session of ours, is given a moment.
async fn first_connection(options: &PgConnectOptions) -> Result<PgConnection> {
    let begun = Instant::now();
    loop {
        let error = match timeout(PATIENCE, options.connect()).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => StoreError::from(error),
            Err(_) => {
                return Err(StoreError::Silent(PATIENCE.as_secs()));
            }
        };
        if !error.may_pass() || begun.elapsed() > FIRST_PATIENCE {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
