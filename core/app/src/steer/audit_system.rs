//! `hm audit system`: the stream that tells which plugins were installed, and the table of plugins beside it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use hm_domain::event::{Event, PluginInstalled};
use hm_domain::id::{Digest, RunId};
use hm_store::{PluginRow, Store, StoreError};
use serde::Serialize;

use crate::prove::anchors::Head;
use crate::terminal;

/// What the system stream is called where a run's name stands.
const NAME: &str = "system";

/// What nothing in the stream ties to anything else.
const WORD_OF: &str = "who installed a plugin, when, and in which order";

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct SystemReport {
    verdict: &'static str,
    events: u64,
    plugins: u64,
    /// Where it stands.
    head: Option<Head>,
    /// What it takes at its word.
    word_of: &'static str,
    /// What does not hold, in sentences.
    faults: Vec<String>,
}

/// Whether somebody means the system stream.
pub(crate) fn is_meant(run: &str) -> bool {
    run == NAME || run.parse() == Ok(RunId::SYSTEM.0)
}

impl SystemReport {
    /// Prints it; gives the exit code.
    pub(crate) fn tell(&self, json: bool) -> Result<u8> {
        if json {
            println!("{}", serde_json::to_string_pretty(self)?);
        } else {
            println!("audit of the system stream: {}", self.verdict);
            println!("  {} events, {} plugins installed", self.events, self.plugins);
            if let Some(head) = self.head {
                println!("  head: {head}");
            }
            println!("  taken at its word: {}", self.word_of);
            self.faults.iter().for_each(|fault| println!("  {}", terminal::line(fault)));
        }
        Ok(u8::from(!self.faults.is_empty()))
    }
}

/// Walks the chain, decodes every event, and holds the table of plugins against them, both ways.
///
/// Who has the database can make the whole stream anew: `heads` that were written down tell.
pub(crate) async fn audit(store: &Store, heads: &[Head]) -> Result<SystemReport> {
    let chain = store.verify_chain(RunId::SYSTEM).await.context("the chain cannot be read")?;
    let mut faults = Vec::new();
    let mut installed = BTreeMap::new();
    match chain.broken {
        Some((seq, why)) => faults.push(format!("seq {seq}: {why}")),
        None => installed = events(store, &mut faults).await?,
    }
    for head in heads {
        let found = store.read_raw(RunId::SYSTEM, head.seq, 1).await?;
        if !found.iter().any(|stored| (stored.envelope.seq, stored.hash) == (head.seq, head.hash)) {
            faults.push(format!("seq {}: the stream does not pass through head {head}", head.seq));
        }
    }
    let rows = store.plugins().await?;
    for row in &rows {
        if !installed.contains_key(&row.digest) {
            faults
                .push(format!("plugin {} is in the table, and no event installed it", called(row)));
        }
    }
    let rows: BTreeMap<Digest, PluginRow> = rows.into_iter().map(|row| (row.digest, row)).collect();
    for (digest, event) in &installed {
        held_against(store, *digest, event, rows.get(digest), &mut faults).await?;
    }
    let verdict = if faults.is_empty() { "unbroken" } else { "diverged" };
    let stands = store.head(RunId::SYSTEM).await?;
    let head = stands.next_seq.checked_sub(1).map(|seq| Head { seq, hash: stands.chain });
    let (events, plugins) = (chain.events, installed.len() as u64);
    Ok(SystemReport { verdict, events, plugins, head, word_of: WORD_OF, faults })
}

fn called(row: &PluginRow) -> String {
    format!("{}@{} ({})", row.description.name, row.description.version, row.digest.short())
}

/// The plugins that the stream says were installed.
async fn events(
    store: &Store,
    faults: &mut Vec<String>,
) -> Result<BTreeMap<Digest, PluginInstalled>> {
    let (mut installed, mut next) = (BTreeMap::new(), 0);
    loop {
        let page = store.read_raw(RunId::SYSTEM, next, 1024).await?;
        let Some(last) = page.last() else { return Ok(installed) };
        next = last.envelope.seq + 1;
        for stored in &page {
            let seq = stored.envelope.seq;
            match stored.decode().map(|recorded| recorded.event) {
                Ok(Event::PluginInstalled(event)) => {
                    if installed.insert(event.plugin, event).is_some() {
                        faults.push(format!("seq {seq}: a plugin is installed a second time"));
                    }
                }
                Ok(_) => faults.push(format!("seq {seq}: an event of a run")),
                Err(error) => faults.push(format!("seq {seq}: {error}")),
            }
        }
    }
}

async fn held_against(
    store: &Store,
    digest: Digest,
    event: &PluginInstalled,
    row: Option<&PluginRow>,
    faults: &mut Vec<String>,
) -> Result<()> {
    let named = format!("{}@{} ({})", event.name, event.version, digest.short());
    let Some(row) = row else {
        faults.push(format!("plugin {named} was installed, and is not in the table"));
        return Ok(());
    };
    let description = &row.description;
    let said = (&description.name, &description.version, row.world);
    if said != (&event.name, &event.version, event.world) {
        faults.push(format!("plugin {named} was installed, and the table says {}", called(row)));
    }
    match store.plugin_wasm(digest).await {
        Ok(_) => {}
        Err(StoreError::Corrupt(why)) => faults.push(why),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
