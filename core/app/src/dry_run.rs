//! `hm train --dry-run`: what would be trained, and what it would cost. Asks all that `hm train` asks
//! and writes nothing: what cannot be asked so is told.

use anyhow::Result;
use hm_store::{Standing, Store};

use crate::admit::{self, Admitted};
use crate::costs::Costs;
use crate::outlook;
use crate::prepare::estimated_manifest;
use crate::resolve::{Known, resolve};
use crate::run_file::RunFile;
use crate::settings::Lookup;
use crate::train::{How, unfinished};
use crate::workplace::Workplace;

/// The spec goes to standard output, what it costs to standard error; with --json both to the former.
pub(crate) fn dry_run(
    workplace: &Workplace,
    file: &RunFile,
    how: &How,
    is_json: bool,
) -> Result<u8> {
    let found = look(workplace)?;
    let lookup = match &found {
        Ok(store) => Lookup::In(store),
        Err(without) => *without,
    };
    let Admitted { plugins, devices } = admit::file(workplace, lookup, file, &how.device)?;
    let (manifest, is_estimated) = estimated_manifest(workplace, file)?;
    let (spec, first) = resolve(file, &plugins, &Known::from(&manifest))?;
    let costs = Costs::of(&spec);
    let domains = outlook::domains(&spec, &first.mixture);
    let remarks = outlook::remarks(&spec, &first);
    if is_json {
        let whole = serde_json::json!({
            "spec": spec, "costs": costs, "domains": domains, "remarks": remarks,
            "data_is_estimated": is_estimated
        });
        println!("{}", serde_json::to_string_pretty(&whole)?);
    } else {
        println!("{}", serde_json::to_string_pretty(&spec)?);
        costs.print(&spec);
        outlook::print(&domains, &remarks);
    }
    if let Some(store) = lookup.store() {
        match if how.new { None } else { unfinished(workplace, store, file, how.run)? } {
            Some(id) => admit::unfinished(workplace, store, id, (file, &plugins))?,
            None => admit::plugins_begin(&workplace.registry(store)?, &spec)?,
        }
    }
    admit::memory(&spec, &devices)?;
    Ok(0)
}

/// The database as it stands, or how it is done without.
fn look(workplace: &Workplace) -> Result<Result<Store, Lookup<'static>>> {
    let why = match hm_store::database_as_it_stands(&workplace.data_dir)? {
        Standing::Nowhere => return Ok(Err(Lookup::Nowhere)),
        Standing::Closed(why) => why,
        Standing::Open(url) => match workplace.runtime.block_on(Store::connect_to_look(&url)) {
            Ok(Some(store)) => return Ok(Ok(store)),
            Ok(None) => "its tables are not those of this program yet".to_owned(),
            Err(error) => error.to_string(),
        },
    };
    eprintln!(
        "not checked, since a dry run changes nothing in a database: whether a run of this name \
         goes on or has ended, and the plugins ({why})"
    );
    Ok(Err(Lookup::Closed))
}
