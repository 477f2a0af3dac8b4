//! `hm train --dry-run`: what would be trained, and what it would cost. Asks all that `hm train` asks
//! and writes nothing: what cannot be asked so is told.

use anyhow::Result;
use hm_domain::spec::RunSpec;
use hm_store::{Standing, Store};

use crate::corpora::prepare::estimate;
use crate::forecast::costs::Costs;
use crate::forecast::outlook;
use crate::run_file::RunFile;
use crate::run_file::resolve::{Known, likely_faults, resolve};
use crate::run_file::settings::Lookup;
use crate::work::admit::{self, Admitted};
use crate::work::train::{How, unfinished};
use crate::workplace::Workplace;

/// Bytes of files that are read to know whether they have changed: the rest is known by their lengths.
const READ_BYTES_MAX: u64 = 4 << 20;

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
    let estimate = estimate(workplace, file)?;
    let (spec, first) = resolve(file, &plugins, &Known::from(&estimate))?;
    let costs = Costs::of(&spec);
    let domains = outlook::domains(&spec, &first.mixture);
    let mut remarks = outlook::remarks(&spec, &first);
    if !estimate.is_prepared {
        remarks.extend(uncertain(&spec));
    }
    if is_json {
        let whole = serde_json::json!({
            "spec": spec, "costs": costs, "domains": domains, "remarks": remarks,
            "data_is_estimated": !estimate.is_prepared
        });
        println!("{}", serde_json::to_string_pretty(&whole)?);
    } else {
        println!("{}", serde_json::to_string_pretty(&spec)?);
        costs.print(&spec);
        outlook::print(&domains, &remarks);
    }
    if let Some(store) = lookup.store() {
        match if how.new { None } else { unfinished(workplace, store, (file, &plugins), how.run)? }
        {
            Some(id) => {
                admit::unfinished(workplace, store, id, (file, &plugins))?;
                admit::data(workplace, store, id, file, (READ_BYTES_MAX, &|| false))?;
                if estimate.is_prepared {
                    admit::same(&workplace.begun_with(store, id)?, &spec)?;
                }
            }
            None => admit::plugins_begin(&workplace.registry(store)?, &spec)?,
        }
    }
    admit::memory(&spec, &devices)?;
    Ok(0)
}

/// What only the whole text decides.
fn uncertain(spec: &RunSpec) -> Vec<String> {
    let unmet = spec.domains.iter().filter(|domain| domain.tokens() == 0);
    let unmet = unmet.map(|domain| {
        format!(
            "`{}` is not in the text that was looked at: without any it is refused",
            domain.name
        )
    });
    let faults = likely_faults(spec);
    let likely = faults.all().iter();
    unmet.chain(likely.map(|fault| format!("refused if the estimate holds: {fault}"))).collect()
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
