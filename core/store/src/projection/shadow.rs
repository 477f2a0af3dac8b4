//! What the log would project, beside what lies there: empty temporary tables of the same names, which a
//! session sees before the real ones, so the statements that write these write those.

use hm_domain::event::{Event, Recorded};
use hm_domain::id::RunId;
use sqlx::postgres::PgConnection;

use super::project;
use crate::error::Result;
use crate::store::{PAGE_EVENTS, StoredEvent, read_raw};

/// A projected table.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// Whether its rows change, or come to be, with more than one event. Those of the others stand as
    /// they were appended, and name their event by `seq`.
    pub(super) moves: bool,
}

pub(super) const TABLES: [Table; 10] = [
    Table { name: "run", moves: true },
    Table { name: "step_metric", moves: false },
    Table { name: "step_rollup", moves: true },
    Table { name: "decision", moves: false },
    Table { name: "finding", moves: false },
    Table { name: "checkpoint", moves: false },
    Table { name: "rollback", moves: false },
    Table { name: "binding", moves: true },
    Table { name: "validation", moves: false },
    Table { name: "weight_state", moves: false },
];

/// The shadows of one run in one session.
pub(super) struct Shadows {
    run_id: RunId,
    /// Where the real tables lie.
    schema: String,
    /// Seq of the next event to fold.
    pub(super) next_seq: u64,
    /// What answers wishes among the events folded.
    pub(super) answers: Vec<Recorded>,
}

impl Shadows {
    /// Makes them. Statements of this session that name these tables mean the shadows from then on, so it
    /// must be one that has named none.
    pub(super) async fn make(c: &mut PgConnection, run_id: RunId) -> Result<Shadows> {
        let schema: String =
            sqlx::query_scalar("select quote_ident(current_schema())").fetch_one(&mut *c).await?;
        for Table { name, .. } in TABLES {
            let text =
                format!("create temporary table {name} (like {schema}.{name} including all)");
            sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut *c).await?;
        }
        Ok(Shadows { run_id, schema, next_seq: 0, answers: Vec::new() })
    }

    /// Projects all events from `next_seq` on that the session sees.
    pub(super) async fn fold(&mut self, c: &mut PgConnection) -> Result<()> {
        loop {
            let page = read_raw(c, self.run_id, self.next_seq, PAGE_EVENTS).await?;
            let Some(last) = page.last() else { return Ok(()) };
            self.next_seq = last.envelope.seq + 1;
            let page = page.iter().map(StoredEvent::decode).collect::<Result<Vec<_>>>()?;
            project(c, self.run_id, &page.iter().collect::<Vec<_>>()).await?;
            let answers = |recorded: &Recorded| {
                matches!(recorded.event, Event::CommandAnswered(_) | Event::RunFinished(_))
            };
            self.answers.extend(page.into_iter().filter(answers));
        }
    }

    /// A query's end: every row of `table` from `from_seq` on that is not what the log gives, as `a` (what
    /// lies there) and `b` (what should), either of them null where there is none.
    pub(super) async fn differing(
        &self,
        c: &mut PgConnection,
        table: &Table,
        from_seq: u64,
    ) -> Result<String> {
        let (name, schema, run) = (table.name, &self.schema, self.run_id);
        let keys = self.keys(c, table).await?.join(", ");
        let late = match table.moves {
            true => String::new(),
            false => format!(" and seq >= {from_seq}"),
        };
        Ok(format!(
            "from (select * from {schema}.{name} where run_id = '{run}'{late}) a \
             full join (select * from pg_temp.{name} where run_id = '{run}'{late}) b using ({keys}) \
             where a.run_id is null or b.run_id is null or not (a.* operator(pg_catalog.=) b.*)"
        ))
    }

    /// Columns of its primary key.
    pub(super) async fn keys(&self, c: &mut PgConnection, table: &Table) -> Result<Vec<String>> {
        let keys = sqlx::query_scalar(
            "select quote_ident(attname) from pg_index i join pg_attribute a \
             on a.attrelid = i.indrelid and a.attnum = any(i.indkey) \
             where i.indisprimary and i.indrelid = $1::text::regclass \
             order by array_position(i.indkey::int2[], a.attnum)",
        )
        .bind(self.real(table))
        .fetch_all(c)
        .await?;
        Ok(keys)
    }

    /// The real table.
    pub(super) fn real(&self, table: &Table) -> String {
        format!("{}.{}", self.schema, table.name)
    }
}
