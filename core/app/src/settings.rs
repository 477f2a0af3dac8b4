//! What is wrong with a run file, found before anything is prepared, started or written, and told all
//! at once. What only the data decides is checked in `resolve`.

use anyhow::Result;
use hm_domain::event::Role;
use hm_domain::plugin::World;
use hm_domain::settings::{Faults, bad_name, key_of, shown, sum_of_typed};
use hm_domain::shares::{no_share, no_whole};
use hm_domain::spec::check_decision_lag;
use hm_store::Store;

use crate::run_file::RunFile;
use crate::workplace::Workplace;

/// Refuses a run file that no run can be made of, with every fault it has. `store` is none where there
/// is no database, and so no plugin.
///
/// # Errors
/// [`Faults`], or what kept the plugins from being looked up.
pub(crate) fn check(workplace: &Workplace, store: Option<&Store>, file: &RunFile) -> Result<()> {
    let mut faults = faults(file);
    check_plugins(workplace, store, file, &mut faults)?;
    Ok(faults.into_result()?)
}

/// Faults that the file alone shows.
pub(crate) fn faults(file: &RunFile) -> Faults {
    let mut faults = Faults::default();
    if let Some(must) = bad_name(&file.name) {
        faults.add("name", shown(&file.name), must);
    }
    file.data.check(&mut faults);
    file.model.check(&mut faults);
    file.model.check_tokenizer(file.data.tokenizer.as_deref(), &mut faults);
    file.training.check(&mut faults);
    let peak = Some(file.training.learning_rate).filter(|peak| *peak > 0.0);
    file.optimizer.check(peak, &mut faults);
    file.rules_spec().check(&mut faults);
    file.validation.check(&mut faults);
    file.checkpoint.check(&mut faults);
    check_decision_lag(file.decision_lag, file.training.steps, &mut faults);
    for (domain, limits) in &file.limits {
        limits.check(domain, &mut faults);
    }
    check_mixture(file, &mut faults);
    faults
}

/// Shares that are shares, and together no more than a whole; whether they are all of it is known with
/// the domains.
fn check_mixture(file: &RunFile, faults: &mut Faults) {
    let mut all_are_shares = true;
    for (domain, &value) in &file.mixture {
        if let Some(must) = no_share(value) {
            all_are_shares = false;
            faults.add(key_of("mixture", domain), value, must);
        }
    }
    let sum: f64 = file.mixture.values().sum();
    if let Some(must) = no_whole(sum, false).filter(|_| all_are_shares) {
        let value = format!("a set of shares that sum to {}", sum_of_typed(sum));
        faults.add("mixture", value, must);
    }
}

/// Plugins that are installed, with configurations that their schemas allow, and one policy in charge.
fn check_plugins(
    workplace: &Workplace,
    store: Option<&Store>,
    file: &RunFile,
    faults: &mut Faults,
) -> Result<()> {
    let mut active: Option<(usize, &str)> = None;
    for (place, choice) in file.plugins.iter().enumerate() {
        let key = format!("plugins.{place}.plugin");
        let row = match store {
            Some(store) => workplace.runtime.block_on(store.plugin(&choice.plugin))?,
            None => None,
        };
        let Some(row) = row else {
            let must = "must be an installed plugin: `hm plugin ls` lists them, `hm plugin install` \
                        adds one";
            faults.add(key, format!("`{}`", choice.plugin), must);
            continue;
        };
        if let Err(message) =
            hm_host::validate_config(&row.description.config_schema, &choice.config)
        {
            let must = format!("{} does not take it: {message}", row.description.name);
            faults.add(format!("plugins.{place}.config"), &choice.config, must);
        }
        if row.world == World::Policy && choice.role == Role::Active {
            if let Some((first, name)) = active {
                let must = format!(
                    "must have the role shadow, or plugins.{first} `{name}`: one policy steers a run"
                );
                faults.add(key, format!("`{}`", choice.plugin), must);
            }
            active = active.or(Some((place, &choice.plugin)));
        }
    }
    Ok(())
}
