//! `finding`: what detectors saw.

use hm_domain::event::{Receipt, Recorded};
use hm_domain::id::RunId;
use hm_domain::plugin::{Finding, Output};
use sqlx::postgres::PgConnection;

use super::lists::Lists;
use super::{clean, name, steps_of};
use crate::error::Result;

const INSERT: &str = "insert into finding (run_id, seq, receipt, position, attempt, step, binding, kind, \
    severity, score, threshold, domains, evidence, recommendation) \
    select $1, u.seq, u.receipt, u.position, u.attempt, u.step, u.binding, u.kind, u.severity, u.score, \
    u.threshold, ($2::bigint[])[u.start:u.stop], u.evidence, u.recommendation \
    from unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], \
    $9::text[], $10::text[], $11::float8[], $12::float8[], $13::integer[], $14::integer[], $15::text[], \
    $16::text[]) as u(seq, receipt, position, attempt, step, binding, kind, severity, score, threshold, \
    start, stop, evidence, recommendation)";

/// One row.
struct Row<'a> {
    recorded: &'a Recorded,
    /// Receipt within the event and finding within the receipt.
    place: (i64, i64),
    step: u64,
    receipt: &'a Receipt,
    finding: &'a Finding,
}

/// Writes a row for every finding in `events`.
pub(super) async fn insert(
    c: &mut PgConnection,
    run_id: RunId,
    events: &[&Recorded],
) -> Result<()> {
    let mut found = Vec::new();
    for (recorded, event) in steps_of(events) {
        for (index, receipt) in (0..).zip(&event.receipts) {
            let Output::Findings(findings) = &receipt.output else { continue };
            found.extend((0..).zip(findings).map(|(position, finding)| Row {
                recorded,
                place: (index, position),
                step: event.step,
                receipt,
                finding,
            }));
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let mut domains = Lists::new();
    for row in &found {
        domains.push(row.finding.domains.iter().map(|&domain| i64::from(domain)));
    }
    let rows = || found.iter();
    sqlx::query(INSERT)
        .bind(run_id.0)
        .bind(domains.values)
        .bind(rows().map(|row| row.recorded.seq as i64).collect::<Vec<_>>())
        .bind(rows().map(|row| row.place.0).collect::<Vec<_>>())
        .bind(rows().map(|row| row.place.1).collect::<Vec<_>>())
        .bind(rows().map(|row| i64::from(row.recorded.attempt)).collect::<Vec<_>>())
        .bind(rows().map(|row| row.step as i64).collect::<Vec<_>>())
        .bind(rows().map(|row| i64::from(row.receipt.binding.0)).collect::<Vec<_>>())
        .bind(rows().map(|row| clean(&row.finding.kind)).collect::<Vec<_>>())
        .bind(rows().map(|row| name(&row.finding.severity)).collect::<Vec<_>>())
        .bind(rows().map(|row| row.finding.score).collect::<Vec<_>>())
        .bind(rows().map(|row| row.finding.threshold).collect::<Vec<_>>())
        .bind(domains.starts)
        .bind(domains.stops)
        .bind(rows().map(|row| clean(&row.finding.evidence)).collect::<Vec<_>>())
        .bind(rows().map(|row| name(&row.finding.recommendation)).collect::<Vec<_>>())
        .execute(c)
        .await?;
    Ok(())
}
