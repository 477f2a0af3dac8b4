//! `hm train --dry-run`: what would be trained, and what it would cost.

use anyhow::Result;
use hm_store::Store;
use hm_train::DeviceChoice;

use crate::cli::TrainArgs;
use crate::costs::Costs;
use crate::outlook;
use crate::prepare::estimated_manifest;
use crate::resolve::resolve;
use crate::run_file::RunFile;
use crate::settings;
use crate::workplace::Workplace;

/// The spec goes to standard output, what it costs to standard error; with --json both to the former.
pub(crate) fn dry_run(workplace: &Workplace, file: &RunFile, args: &TrainArgs) -> Result<u8> {
    settings::check(workplace, plugin_store(workplace, file)?.as_ref(), file)?;
    let (manifest, is_estimated) = estimated_manifest(workplace, file)?;
    let (spec, first) = resolve(file, &manifest)?;
    let device: DeviceChoice = args.device.parse()?;
    let costs = Costs::of(&spec, file.plugins.len());
    let domains = outlook::domains(&spec, &first.mixture);
    let remarks = outlook::remarks(&spec, &first);
    if args.file.json {
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
    costs.admit(&spec, &device)?;
    Ok(0)
}

/// The database, if the file names plugins and there is one to look them up in: nothing is made here.
fn plugin_store(workplace: &Workplace, file: &RunFile) -> Result<Option<Store>> {
    if file.plugins.is_empty() || !hm_store::database_exists(&workplace.data_dir) {
        return Ok(None);
    }
    workplace.store().map(Some)
}
