//! The demo's closing words: what the run learned, how the mixture moved, what the audit says.

use anyhow::{Context, Result};
use hm_domain::event::Event;
use hm_domain::id::RunId;
use hm_store::Store;

use crate::page::validations;
use crate::steer::audit::Report;
use crate::work::run_end::Outcome;

/// Prints the summary of an ended run.
pub(crate) async fn print(
    store: &Store,
    id: RunId,
    outcome: &Outcome,
    report: &Report,
) -> Result<()> {
    let row = store.run(id).await?.with_context(|| format!("run {id} is not in the database"))?;
    let first = store.read(id, 0, 1).await?.into_iter().next();
    let Some(Event::RunStarted(started)) = first.map(|first| first.event) else {
        anyhow::bail!("the log of run {id} does not begin with run-started");
    };
    let prior = started.prior.shares();
    let mixture = store.newest_mixture(id).await?.map_or_else(|| prior.clone(), |(now, _)| now);
    let validations = validations::all(store, id).await?;
    let (before, after) = validations.first().zip(validations.last()).context("no validation")?;

    report.print();
    if let Outcome::Finished(_, reason) = outcome {
        println!("\nRun {}: {reason}.", row.name);
    }
    println!("\n{:15} {:>22}   {:>22}", "", "validation loss", "share of the mixture");
    for (index, name) in row.domains.iter().enumerate() {
        let loss = |validation: &hm_serve::Validation| {
            validation.domain_losses[index].map_or("-".to_owned(), |loss| format!("{loss:.3}"))
        };
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let losses = format!("{} -> {}", loss(before), loss(after));
        let shares = format!("{} -> {}", percent(prior[index]), percent(mixture[index]));
        println!("{name:15} {losses:>22}   {shares:>22}");
    }
    println!("\nWhat to try next:");
    println!("  hm runs ls                                   runs in the database");
    println!("  hm db psql -- -c 'select * from decision order by seq desc limit 5'");
    println!("  hm audit {} --json                  the proof, for a machine", row.name);
    println!("  hm serve                                     the page on its own");
    println!(
        "  hm train -c run.yaml                         a run of your own, from examples/jsonl-folder.yaml"
    );
    Ok(())
}
