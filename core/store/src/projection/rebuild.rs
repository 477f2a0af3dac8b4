//! Projections held against the log, and mended where they differ. Neither stops the run's writer: what is
//! there is compared as of one moment, and the head's lock is taken only for what came since.

use hm_domain::event::Recorded;
use hm_domain::id::RunId;
use serde_json::Value;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::shadow::{Shadows, TABLES, Table};
use crate::commands;
use crate::error::{Result, StoreError};
use crate::store::Store;

/// Differences told one by one of each table.
const SHOWN_MAX: i64 = 20;

/// A moment at which all tables are looked at, whatever is written meanwhile.
const MOMENT: &str = "begin isolation level repeatable read, read write";

/// A projected row that is not what the log gives.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ViewDifference {
    /// The table.
    pub table: &'static str,
    /// The row's key, as `step 12, attempt 0`.
    pub key: String,
    /// The event it comes from, where it comes from one.
    pub seq: Option<u64>,
    /// The first column that differs; none where a whole row is missing or too many.
    pub column: Option<String>,
    /// What lies there; none where the row is missing.
    pub found: Option<Value>,
    /// What the log gives; none where it gives no such row.
    pub due: Option<Value>,
}

/// What a comparison of all projections with their log found.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct ViewsReport {
    /// Events of the log.
    pub events: u64,
    /// Rows that differ.
    pub differences: u64,
    /// The first of them, of every table.
    pub shown: Vec<ViewDifference>,
}

/// What a rebuild did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Events of the log.
    pub events: u64,
    /// Rows that differed and were written anew or taken away.
    pub rows: u64,
}

impl Store {
    /// Compares every projected row of a run with what its log gives, as of one moment; of a run that goes
    /// on, too. Needs the right to read, and to make temporary tables.
    pub async fn check_views(&self, run_id: RunId) -> Result<ViewsReport> {
        self.head(run_id).await?;
        let mut connection = self.pool.acquire().await?;
        let mut moment = connection.begin_with(MOMENT).await?;
        let mut shadows = Shadows::make(&mut moment, run_id).await?;
        shadows.fold(&mut moment).await?;
        let mut report = ViewsReport { events: shadows.next_seq, ..ViewsReport::default() };
        for table in &TABLES {
            let differing = shadows.differing(&mut moment, table, 0).await?;
            let keys = shadows.keys(&mut moment, table).await?;
            report.differences += count(&mut moment, &differing).await?;
            report.shown.extend(shown(&mut moment, table, &keys, &differing).await?);
        }
        moment.rollback().await?;
        Ok(report)
    }

    /// Makes a run's projections what its log gives. Only rows that differ are written.
    pub async fn rebuild(&self, run_id: RunId) -> Result<Rebuilt> {
        self.head(run_id).await?;
        let mut connection = self.pool.acquire().await?;
        let rebuilt = rebuild(&mut connection, run_id).await;
        match rebuilt {
            // Whoever has the connection next means the real tables.
            Ok(_) => _ = sqlx::raw_sql("discard temporary").execute(&mut *connection).await?,
            Err(_) => connection.close_on_drop(),
        }
        rebuilt
    }
}

async fn rebuild(connection: &mut PgConnection, run_id: RunId) -> Result<Rebuilt> {
    let mut moment = connection.begin_with(MOMENT).await?;
    let mut shadows = Shadows::make(&mut moment, run_id).await?;
    shadows.fold(&mut moment).await?;
    for table in &TABLES {
        make_notes(&mut moment, table, &shadows).await?;
        if !table.moves {
            note(&mut moment, table, &shadows, 0).await?;
        }
    }
    moment.commit().await?;
    // The writer waits from here on, for as many events as came since.
    let mut last = connection.begin().await?;
    sqlx::query("select 1 from run_head where run_id = $1 for no key update")
        .bind(run_id.0)
        .fetch_optional(&mut *last)
        .await?
        .ok_or(StoreError::NoRun(run_id))?;
    let since = shadows.next_seq;
    shadows.fold(&mut last).await?;
    let mut rows = 0;
    for table in &TABLES {
        note(&mut last, table, &shadows, since).await?;
        rows += mend(&mut last, table, &shadows).await?;
    }
    let answers: Vec<&Recorded> = shadows.answers.iter().collect();
    commands::answer(&mut last, run_id, &answers).await?;
    last.commit().await?;
    Ok(Rebuilt { events: shadows.next_seq, rows })
}

async fn execute(c: &mut PgConnection, text: String) -> Result<u64> {
    Ok(sqlx::query(sqlx::AssertSqlSafe(text)).execute(c).await?.rows_affected())
}

async fn count(c: &mut PgConnection, differing: &str) -> Result<u64> {
    let text = format!("select count(*) {differing}");
    let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(text)).fetch_one(c).await?;
    Ok(count.unsigned_abs())
}

/// Empty lists of rows to take away and to write.
async fn make_notes(c: &mut PgConnection, table: &Table, shadows: &Shadows) -> Result<()> {
    for list in ["wrong", "due"] {
        let (name, real) = (table.name, shadows.real(table));
        execute(c, format!("create temporary table {list}_{name} (like {real})")).await?;
    }
    Ok(())
}

/// Notes the rows that differ from `from_seq` on.
async fn note(c: &mut PgConnection, table: &Table, shadows: &Shadows, from_seq: u64) -> Result<()> {
    let differing = shadows.differing(c, table, from_seq).await?;
    for (list, side) in [("wrong", "a"), ("due", "b")] {
        let name = table.name;
        let text = format!(
            "insert into {list}_{name} select ({side}.r).* from \
             (select {side}::{real} as r {differing}) {side} where ({side}.r).run_id is not null",
            real = shadows.real(table)
        );
        execute(c, text).await?;
    }
    Ok(())
}

/// Takes away what is wrong and writes what is due.
async fn mend(c: &mut PgConnection, table: &Table, shadows: &Shadows) -> Result<u64> {
    let (name, real) = (table.name, shadows.real(table));
    let keys = shadows.keys(c, table).await?.join(", ");
    let removed = format!(
        "delete from {real} where ({keys}) in (select {keys} from wrong_{name} except select {keys} from due_{name})"
    );
    let removed = execute(c, removed).await?;
    let columns: Vec<String> = sqlx::query_scalar(
        "select quote_ident(attname) from pg_attribute \
         where attrelid = $1::text::regclass and attnum > 0 and not attisdropped",
    )
    .bind(&real)
    .fetch_all(&mut *c)
    .await?;
    // What is there already is changed in place: other tables may refer to it.
    let set: Vec<String> =
        columns.iter().map(|column| format!("{column} = excluded.{column}")).collect();
    let write = format!(
        "insert into {real} select * from due_{name} on conflict ({keys}) do update set {}",
        set.join(", ")
    );
    Ok(removed + execute(c, write).await?)
}

/// The first rows that differ, in words.
async fn shown(
    c: &mut PgConnection,
    table: &Table,
    keys: &[String],
    differing: &str,
) -> Result<Vec<ViewDifference>> {
    let text = format!(
        "select to_jsonb(a), to_jsonb(b) {differing} order by {} limit {SHOWN_MAX}",
        keys.join(", ")
    );
    let rows: Vec<(Option<Value>, Option<Value>)> =
        sqlx::query_as(sqlx::AssertSqlSafe(text)).fetch_all(c).await?;
    Ok(rows.into_iter().map(|(found, due)| difference(table.name, keys, found, due)).collect())
}

fn difference(
    table: &'static str,
    keys: &[String],
    found: Option<Value>,
    due: Option<Value>,
) -> ViewDifference {
    let row = due.as_ref().or(found.as_ref()).cloned().unwrap_or_default();
    let own = keys.iter().filter(|key| *key != "run_id");
    let key: Vec<String> = own.map(|key| format!("{key} {}", row[key])).collect();
    let seq = row["seq"].as_u64();
    let key = key.join(", ");
    let (Some(Value::Object(is)), Some(Value::Object(should))) = (&found, &due) else {
        return ViewDifference { table, key, seq, column: None, found, due };
    };
    let column = should.iter().find(|(column, value)| is.get(*column) != Some(value));
    match column.map(|(column, value)| (column.clone(), value.clone())) {
        Some((column, value)) => {
            let found = is.get(&column).cloned();
            ViewDifference { table, key, seq, column: Some(column), found, due: Some(value) }
        }
        None => ViewDifference { table, key, seq, column: None, found, due },
    }
}
