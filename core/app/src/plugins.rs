//! `hm plugin`: pack, check, install, list, bind and release.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use hm_domain::command::Command;
use hm_domain::event::{FailurePolicy, Role};
use hm_domain::plugin::{Description, Limits};
use hm_host::Host;
use hm_serve::{CheckResult, UploadVerdict};
use hm_store::{PluginRow, Store, StoreError};

use crate::cli::PluginCommand;
use crate::steer::runs;
use crate::terminal;
use crate::workplace::{Workplace, user};

pub(crate) fn run(workplace: &Workplace, command: PluginCommand) -> Result<u8> {
    match command {
        PluginCommand::Build { module, output } => {
            let bytes = std::fs::read(&module)
                .with_context(|| format!("cannot read {}", module.display()))?;
            let component = hm_host::pack(&bytes)?;
            std::fs::write(&output, &component)
                .with_context(|| format!("cannot write {}", output.display()))?;
            println!("{}: {} bytes", output.display(), component.len());
        }
        PluginCommand::Check { component, json } => {
            return Ok(u8::from(checked(&component, json)?.0.is_none()));
        }
        PluginCommand::Install { component, json } => return install(workplace, &component, json),
        PluginCommand::Ls { json } => {
            let store = workplace.store_to_read()?;
            let rows = workplace.runtime.block_on(store.plugins())?;
            if json {
                let list: Vec<_> = rows
                    .iter()
                    .map(|row| {
                        serde_json::json!({"digest": row.digest, "world": row.world,
                        "interface": row.interface, "description": row.description})
                    })
                    .collect();
                println!("{}", serde_json::to_string_pretty(&list)?);
            } else {
                for row in rows {
                    let description = &row.description;
                    println!(
                        "{}  {}@{}  {:?}",
                        row.digest.short(),
                        description.name,
                        description.version,
                        row.world
                    );
                }
            }
        }
        PluginCommand::Bind { run, plugin, config, shadow, reason } => {
            let config = serde_json::from_str(&config).context("--config is not JSON")?;
            let role = if shadow { Role::Shadow } else { Role::Active };
            let failure = FailurePolicy::default();
            let command = Command::Bind { plugin, config, role, failure, reason };
            return runs::send(workplace, &run, &command);
        }
        PluginCommand::Release { run, plugin, reason } => {
            return runs::release(workplace, &run, &plugin, reason);
        }
    }
    Ok(0)
}

/// What checking a component came to: what is shown, and what is kept if every check passed.
pub(crate) struct Verdict {
    pub(crate) shown: UploadVerdict,
    pub(crate) row: Option<PluginRow>,
}

/// Runs every upload check on a component under the host's limits.
pub(crate) fn check(host: &Host, component: &[u8]) -> Verdict {
    let checked = host.check(component);
    let row = checked.loaded.as_ref().map(|loaded| PluginRow {
        digest: loaded.digest,
        world: loaded.world,
        interface: loaded.interface.clone(),
        description: loaded.description.clone(),
        check: serde_json::json!(checked.checks),
        installed_at: now_us(),
    });
    let checks = checked.checks.into_iter().map(|check| CheckResult {
        name: check.name.to_owned(),
        passed: check.passed,
        message: check.message,
    });
    let shown = UploadVerdict {
        accepted: row.is_some(),
        digest: checked.digest.to_string(),
        name: row.as_ref().map(|row| row.description.name.clone()),
        version: row.as_ref().map(|row| row.description.version.clone()),
        checks: checks.collect(),
        note: None,
    };
    Verdict { shown, row }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as i64)
}

/// Checks a component file and prints the verdict; what is kept, if every check passed.
fn checked(path: &Path, json: bool) -> Result<(Option<PluginRow>, Vec<u8>)> {
    let component = std::fs::read(path).map_err(|error| unread(path, &error))?;
    let Verdict { shown, row } = check(&Host::new(Limits::default())?, &component);
    if json {
        println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok((row, component));
    }
    for CheckResult { name, passed, message } in &shown.checks {
        let passed = if *passed { "ok  " } else { "FAIL" };
        println!("{passed} {name}: {}", terminal::line(message));
    }
    match &row {
        Some(row) => {
            let Description { name, version, documentation, config_schema, .. } = &row.description;
            println!("{name}@{version} {}", row.digest);
            // Indented: a plugin's own words are not taken for ours.
            documentation.lines().for_each(|line| println!("  {}", terminal::line(line)));
            // On one line, however its author broke it; checked before, so it can be read.
            let schema = serde_json::from_str(config_schema).map_or_else(
                |_| config_schema.clone(),
                |schema: serde_json::Value| schema.to_string(),
            );
            println!("configuration: {}", terminal::line(&schema));
        }
        None => eprintln!("{} is refused", path.display()),
    }
    Ok((row, component))
}

/// Why there is no component, for who may have named a plugin in place of a file.
fn unread(path: &Path, error: &std::io::Error) -> anyhow::Error {
    let place = path.display();
    if error.kind() != std::io::ErrorKind::NotFound {
        return anyhow!("the component {place} cannot be read: {error}");
    }
    let packed = packed().map(|folder| folder.join(format!("{place}.component.wasm")));
    let meant = match packed.filter(|path| path.is_file()) {
        Some(path) => format!("did you mean {}?", path.display()),
        None => "name the path of a .wasm component; `make plugins` packs ours into \
             ~/.cache/heurimentor/components"
            .to_owned(),
    };
    anyhow!("there is no file {place}: {meant}")
}

/// Where `make plugins` puts ours.
fn packed() -> Option<PathBuf> {
    let home =
        std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/heurimentor/components"));
    std::env::var_os("HM_COMPONENTS").map(PathBuf::from).or(home)
}

fn install(workplace: &Workplace, path: &Path, json: bool) -> Result<u8> {
    let (Some(row), component) = checked(path, json)? else { return Ok(1) };
    let store = workplace.store()?;
    let (new, others) = workplace.runtime.block_on(async {
        let new = store.install_plugin(&row, &component, &user()).await?;
        Ok::<_, StoreError>((new, namesakes(&store, &row).await?))
    })?;
    if !json {
        println!("{}", if new { "installed" } else { "it was installed already" });
    }
    if let Some(sentence) = others {
        eprintln!("{sentence}");
    }
    Ok(0)
}

/// What to know of an installed plugin where others say that they are the same.
pub(crate) async fn namesakes(
    store: &Store,
    row: &PluginRow,
) -> Result<Option<String>, StoreError> {
    let Description { name, version, .. } = &row.description;
    let mut others = store.plugins_called(name, version).await?;
    others.retain(|other| other.digest != row.digest);
    let digests: Vec<String> = others.iter().map(|other| other.digest.short()).collect();
    Ok((!digests.is_empty()).then(|| {
        format!(
            "{name}@{version} is ambiguous now, since other bytes are called so, too ({}): name this one {}, \
             or raise its version",
            digests.join(", "),
            row.digest.short()
        )
    }))
}
