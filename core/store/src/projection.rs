//! Tables that people read in `psql`, written in the append transaction and recreated from the log.

use hm_domain::event::Recorded;
use hm_domain::id::RunId;
use sqlx::postgres::PgConnection;

use crate::error::Result;

pub(crate) async fn project(_c: &mut PgConnection, _run_id: RunId, _events: &[&Recorded]) -> Result<()> {
    Ok(())
}
