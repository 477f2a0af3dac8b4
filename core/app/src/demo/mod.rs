//! `hm demo`: real text of this machine, a small run under a policy, the page, and the audit.

mod summary;
mod text;

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hm_data::FoundText;
use hm_serve::Token;
use hm_store::Store;
use hm_train::DeviceChoice;

use crate::cli::DemoArgs;
use crate::interrupt::Interrupt;
use crate::page::serve::Page;
use crate::plugins;
use crate::prove::held::Anchors;
use crate::run_file::RunFile;
use crate::run_file::typed_again::typed_again;
use crate::steer::audit::source::Logged;
use crate::steer::audit::{self, Level};
use crate::work::run_end::Outcome;
use crate::work::train::{How, Trained, run_to_its_end};
use crate::workplace::{Workplace, user};

/// Plugins of the demo's run: a policy that steers, a detector that watches.
const PLUGINS: [&str; 2] = ["odm", "outlier"];

pub(crate) fn demo(workplace: &Workplace, args: &DemoArgs) -> Result<u8> {
    let interrupt = Interrupt::install()?;
    let store = workplace.store()?;
    let page = Page::open(workplace, args.listen, Token::random()?, Vec::new())?;
    println!(
        "HeuriMentor demo: a {} model on text of this machine, {} steps.",
        args.preset, args.steps
    );
    println!("Watch it at {}\n", page.address);
    if let Some(warning) = &page.warning {
        eprintln!("{warning}");
    }
    install_plugins(workplace, &store, args.plugins.as_deref())?;
    let file = run_file(workplace, args)?;
    let device = DeviceChoice::Auto;
    // A demo is there to be seen again: one that has ended is followed by another.
    let runs = workplace.runtime.block_on(store.runs_named(&file.name))?;
    let new = runs.first().is_none_or(|newest| newest.ending.is_some());
    let how = How { new, run: None, accept_divergence: false, device, peak_tflops: None };
    let Trained { id, outcome, .. } =
        run_to_its_end(workplace, &store, &file, &how, interrupt.clone())?;
    if !matches!(outcome, Outcome::Finished(..)) {
        println!("{}", outcome.sentence(&typed_again()));
        page.close(workplace)?;
        return Ok(outcome.exit_code());
    }
    println!("\nAuditing: every decision of the run is executed again from the log.");
    let source = Logged::new(&store, workplace.runtime.handle(), id);
    let anchors = Anchors::gather(&workplace.data_dir, id, &[], &[], None)?;
    let (report, _) = audit::held_against(&anchors, &source, Level::Decisions)?;
    workplace.runtime.block_on(summary::print(&store, id, &outcome, &report))?;
    if std::io::stdout().is_terminal() && !interrupt.raised() {
        println!("\nThe page stays at {} until Ctrl-C.", page.address);
        while !interrupt.raised() {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    page.close(workplace)?;
    Ok(report.exit_code(true))
}

/// Installs the components of `folder` that the demo needs, or makes sure they are there.
fn install_plugins(workplace: &Workplace, store: &Store, folder: Option<&Path>) -> Result<()> {
    let host = workplace.registry(store)?.host;
    for name in PLUGINS {
        if let Some(folder) = folder {
            let path = folder.join(format!("{name}.component.wasm"));
            let component = std::fs::read(&path).with_context(|| {
                format!("cannot read {}; `make plugins` builds it", path.display())
            })?;
            let verdict = plugins::check(&host, &component);
            let Some(row) = verdict.row else {
                let failed = verdict.shown.checks.iter().find(|check| !check.passed);
                let message = failed.map_or("", |check| check.message.as_str());
                bail!("{} is refused: {message}", path.display());
            };
            workplace.runtime.block_on(store.install_plugin(&row, &component, &user()))?;
        } else if workplace.runtime.block_on(store.plugin(name))?.is_none() {
            bail!(
                "plugin {name} is not installed: run `make demo`, or name the folder of its component with --plugins"
            );
        }
    }
    Ok(())
}

/// The demo's run file, as a person would have written it.
fn run_file(workplace: &Workplace, args: &DemoArgs) -> Result<RunFile> {
    workplace.make_data_dir()?;
    let found = text::find(&workplace.data_dir.join("demo"))?;
    let source = |text: &FoundText, path: &Path, split: &str| serde_json::json!({"path": path, "format": "jsonl", "domain": text.domain, "split": split});
    let both =
        |text| [source(text, &text.path, "train"), source(text, &text.held_out, "validation")];
    let sources: Vec<_> = found.iter().flat_map(both).collect();
    let DemoArgs { preset, steps, .. } = args;
    let quarter = (steps / 4).max(1);
    let file = serde_json::json!({
        "name": format!("demo-{preset}-{steps}"),
        "data": {"sources": sources},
        "model": {"preset": preset},
        "training": {"steps": steps, "sequences_per_step": 8, "learning_rate": 1e-3},
        "validation": {"every_steps": quarter, "sequences_per_domain": 4},
        "checkpoint": {"every_steps": quarter, "keep": 2},
        "plugins": PLUGINS.map(|name| serde_json::json!({"plugin": name})),
    });
    Ok(serde_json::from_value(file)?)
}
