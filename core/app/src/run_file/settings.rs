//! What is wrong with a run file, found before anything is prepared, started or written, and told all
//! at once. What only the data decides is checked in `resolve`.

use anyhow::Result;
use hm_domain::command::zero_character;
use hm_domain::event::Role;
use hm_domain::id::Digest;
use hm_domain::plugin::World;
use hm_domain::settings::{Faults, bad_run_name, key_of, shown, sum_of_typed};
use hm_domain::shares::{no_share, no_whole};
use hm_domain::spec::{PluginSpec, check_decision_lag};
use hm_store::Store;

use crate::run_file::resolve::check_keys;
use crate::run_file::{PluginChoice, RunFile};
use crate::work::registry::{Unfit, installed};
use crate::workplace::Workplace;

/// Where plugins are looked up.
#[derive(Clone, Copy)]
pub(crate) enum Lookup<'a> {
    /// There.
    In(&'a Store),
    /// There is no database, and so no plugin.
    Nowhere,
    /// It cannot be looked into now: what is named is taken for installed.
    Closed,
}

impl<'a> Lookup<'a> {
    /// The database, where it can be looked into.
    pub(crate) fn store(self) -> Option<&'a Store> {
        match self {
            Lookup::In(store) => Some(store),
            Lookup::Nowhere | Lookup::Closed => None,
        }
    }
}

/// Faults that the file alone shows.
pub(crate) fn faults(file: &RunFile) -> Faults {
    let mut faults = Faults::default();
    if let Some(must) = bad_run_name(&file.name) {
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
    if let Some(names) = named_domains(file) {
        check_keys(file, &names, &mut faults);
    }
    faults
}

/// The domains of the data, where every source names its own.
fn named_domains(file: &RunFile) -> Option<Vec<&str>> {
    let names = file.data.sources.iter().map(|source| source.domain.as_deref());
    let mut names: Vec<&str> = names.collect::<Option<_>>()?;
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then_some(names)
}

/// Shares that are shares, and together no more than a whole; whether they are all of it is known with
/// the domains.
fn check_mixture(file: &RunFile, faults: &mut Faults) {
    let sum: f64 = file.mixture.values().sum();
    // Relative weights, as other trainers take them, or so many percent: only a person can tell.
    let are_weights = sum.is_finite() && file.mixture.len() > 1;
    let mut all_are_shares = true;
    for (domain, &value) in &file.mixture {
        if let Some(must) = no_share(value) {
            all_are_shares = false;
            let must = match are_weights && value > 1.0 {
                true => format!(
                    "{must}; weights on another scale are divided by their sum, and these sum to {}",
                    sum_of_typed(sum)
                ),
                false => must.to_owned(),
            };
            faults.add(key_of("mixture", domain), value, must);
        }
    }
    if let Some(must) = no_whole(sum, false).filter(|_| all_are_shares) {
        let value = format!("a set of shares that sum to {}", sum_of_typed(sum));
        faults.add("mixture", value, must);
    }
}

/// Plugins that are installed, with configurations that their schemas allow, and one policy in charge:
/// what they are, so far as they are known.
pub(crate) fn check_plugins(
    workplace: &Workplace,
    lookup: Lookup<'_>,
    file: &RunFile,
    faults: &mut Faults,
) -> Result<Vec<PluginSpec>> {
    let mut specs = Vec::new();
    let mut steers: Option<(usize, &str)> = None;
    for (place, choice) in file.plugins.iter().enumerate() {
        let PluginChoice { plugin, config, role, failure } = choice;
        let key = format!("plugins.{place}.plugin");
        if let Some(text) = zero_character(config) {
            let must = "must hold no zero character, since none can be kept";
            faults.add(format!("plugins.{place}.config"), shown(text), must);
            continue;
        }
        let is_same = |other: &PluginChoice| {
            (&other.plugin, &other.config, other.role) == (plugin, config, *role)
        };
        if let Some(first) = file.plugins[..place].iter().position(is_same) {
            let must = format!("must be left out: plugins.{first} is the same");
            faults.add(key, format!("`{plugin}`"), must);
            continue;
        }
        let digest = match look_up(workplace, lookup, choice)? {
            Ok(None) => Digest::ZERO,
            Ok(Some((digest, world))) => {
                if world == World::Policy && *role == Role::Active {
                    if let Some((first, name)) = steers {
                        let must = format!(
                            "must have the role shadow, or plugins.{first} `{name}`: one policy \
                             steers a run"
                        );
                        faults.add(key, format!("`{plugin}`"), must);
                    }
                    steers = steers.or(Some((place, plugin)));
                }
                digest
            }
            Err(Unfit::Name(must)) => {
                faults.add(key, format!("`{plugin}`"), must);
                continue;
            }
            Err(Unfit::Config(must)) => {
                faults.add(format!("plugins.{place}.config"), config, must);
                continue;
            }
        };
        let (plugin, config) = (plugin.clone(), config.clone());
        specs.push(PluginSpec { plugin, digest, config, role: *role, failure: *failure });
    }
    Ok(specs)
}

/// What a choice names; nothing where that cannot be known now.
fn look_up(
    workplace: &Workplace,
    lookup: Lookup<'_>,
    PluginChoice { plugin, config, .. }: &PluginChoice,
) -> Result<Result<Option<(Digest, World)>, Unfit>> {
    Ok(match lookup {
        Lookup::In(store) => {
            let found = workplace.runtime.block_on(installed(store, plugin, config))?;
            found.map(|row| Some((row.digest, row.world)))
        }
        Lookup::Nowhere => Err(Unfit::not_installed(plugin)),
        Lookup::Closed => Ok(None),
    })
}
