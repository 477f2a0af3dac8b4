//! `hm plugin`: pack, check, install, list and bind.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use hm_domain::command::Command;
use hm_domain::event::{FailurePolicy, Role};
use hm_store::PluginRow;

use crate::Workplace;
use crate::cli::PluginCommand;
use crate::{runs, train};

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
        PluginCommand::Check { component } => {
            let loaded = load(&component)?.0;
            println!("{}", serde_json::to_string_pretty(&loaded.description)?);
        }
        PluginCommand::Install { component } => install(workplace, &component)?,
        PluginCommand::Ls { json } => {
            let store = workplace.store()?;
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
        PluginCommand::Bind { run, plugin, config, shadow } => {
            let config = serde_json::from_str(&config).context("--config is not JSON")?;
            let role = if shadow { Role::Shadow } else { Role::Active };
            let failure = FailurePolicy::default();
            return runs::send(workplace, &run, &Command::Bind { plugin, config, role, failure });
        }
    }
    Ok(0)
}

fn load(path: &std::path::Path) -> Result<(hm_host::Loaded, Vec<u8>)> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let host = hm_host::Host::new(hm_domain::plugin::Limits::default())?;
    let loaded = host.load(&bytes).with_context(|| path.display().to_string())?;
    Ok((loaded, bytes))
}

fn install(workplace: &Workplace, path: &std::path::Path) -> Result<()> {
    let (loaded, bytes) = load(path)?;
    let installed_at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as i64;
    let row = PluginRow {
        digest: loaded.digest,
        world: loaded.world,
        interface: loaded.interface,
        description: loaded.description,
        check: serde_json::json!([{"name": "load", "passed": true}]),
        installed_at,
    };
    let store = workplace.store()?;
    let new = workplace.runtime.block_on(store.install_plugin(&row, &bytes, &train::user()))?;
    let what = if new { "installed" } else { "already installed" };
    println!("{what}: {}@{} {}", row.description.name, row.description.version, row.digest);
    Ok(())
}
