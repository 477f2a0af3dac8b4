//! The inbox: wishes from outside, kept until the run answers them with an event.

use hm_domain::event::{Event, Recorded};
use hm_domain::id::RunId;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::error::Result;
use crate::store::{Store, now_us};

/// A wish that waits.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct StoredCommand {
    /// Its number; later ones are higher.
    pub id: u64,
    /// What kind of wish.
    pub kind: String,
    /// What exactly.
    pub body: serde_json::Value,
    /// Who asked.
    pub by: String,
    /// Microseconds since the Unix epoch.
    pub issued_at: i64,
    /// How long ago that is, by the database's clock; 0 where it does not say when.
    pub waited_s: u64,
}

/// Wishes that wait in one inbox: each is kept for ever, and a worker answers all of them in a row.
const INBOX_MAX: i64 = 100;

/// Places beyond them for wishes that end a run, and with it the waiting.
const INBOX_STOPS_MAX: i64 = 10;

/// What became of a wish that was to be put into an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It waits there under this number.
    Waits(u64),
    /// So many wait already, and nobody has answered them.
    Full(u64),
    /// The run has ended and takes no more wishes.
    Ended,
}

impl Store {
    /// Leaves a wish for the run's worker, unless the run has ended. It waits for nobody: a worker whose
    /// transaction hangs does not keep a wish from being put down. One that slips in while a run is
    /// being sealed has been answered by the run's end. An inbox takes [`INBOX_MAX`] unanswered ones,
    /// and a few beside them where two come at one time.
    pub async fn put_command(
        &self,
        run_id: RunId,
        kind: &str,
        body: &serde_json::Value,
        by: &str,
    ) -> Result<Put> {
        let most = if kind == "stop" { INBOX_MAX + INBOX_STOPS_MAX } else { INBOX_MAX };
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from command where run_id = $1 and answered_seq is null",
        )
        .bind(run_id.0)
        .fetch_one(&self.pool)
        .await?;
        if waiting >= most && !self.head(run_id).await?.sealed {
            return Ok(Put::Full(waiting as u64));
        }
        let id: Option<i64> = sqlx::query_scalar(
            "insert into command (run_id, kind, body, issued_by, issued_at) \
             select $1, $2, $3, $4, $5 from run_head where run_id = $1 and not sealed returning id",
        )
        .bind(run_id.0)
        .bind(kind)
        .bind(body)
        .bind(by)
        .bind(now_us())
        .fetch_optional(&self.pool)
        .await?;
        match id {
            Some(id) => Ok(Put::Waits(id as u64)),
            // Sealed, or not there at all, which is an error.
            None => self.head(run_id).await.map(|_| Put::Ended),
        }
    }

    /// Unanswered wishes with a number above `after`, in order. Two at one time may become visible out
    /// of order, so a worker asks from 0 each time and skips those that it has taken.
    pub async fn pending_commands(&self, run_id: RunId, after: u64) -> Result<Vec<StoredCommand>> {
        let rows = sqlx::query(
            "select id, kind, body, issued_by, issued_at, \
                    case when issued_at > 0 then greatest(0, extract(epoch from clock_timestamp())::bigint \
                        - issued_at / 1000000) else 0 end as waited_s \
             from command \
             where run_id = $1 and id > $2 and answered_seq is null order by id",
        )
        .bind(run_id.0)
        .bind(after as i64)
        .fetch_all(&self.pool)
        .await?;
        let command = |row: &sqlx::postgres::PgRow| {
            Ok(StoredCommand {
                id: row.try_get::<i64, _>("id")? as u64,
                kind: row.try_get("kind")?,
                body: row.try_get("body")?,
                by: row.try_get("issued_by")?,
                issued_at: row.try_get("issued_at")?,
                waited_s: row.try_get::<i64, _>("waited_s")? as u64,
            })
        };
        rows.iter().map(command).collect()
    }

    /// Seq of the event that answered a wish, once there is one: its own answer, or the run's end.
    pub async fn command_answer(&self, id: u64) -> Result<Option<u64>> {
        let seq: Option<Option<i64>> = sqlx::query_scalar(
            "select coalesce(answered_seq, case when sealed then next_seq - 1 end) \
             from command join run_head using (run_id) where id = $1",
        )
        .bind(id as i64)
        .fetch_optional(&self.pool)
        .await?;
        Ok(seq.flatten().map(|seq| seq as u64))
    }
}

/// Marks the wishes that `events` answer. The wish is not derived from the log, its answer is. The end
/// of a run answers whatever still waits.
pub(crate) async fn answer(
    c: &mut PgConnection,
    run_id: RunId,
    events: &[&Recorded],
) -> Result<()> {
    for recorded in events {
        let number = match &recorded.event {
            Event::CommandAnswered(event) => Some(event.command as i64),
            Event::RunFinished(_) => None,
            _ => continue,
        };
        sqlx::query(
            "update command set answered_seq = $3 where run_id = $1 \
             and (id = $2 or ($2 is null and answered_seq is null))",
        )
        .bind(run_id.0)
        .bind(number)
        .bind(recorded.seq as i64)
        .execute(&mut *c)
        .await?;
    }
    Ok(())
}
