//! `hm db`: the database's address, a shell on it, its tables, their roles, its projections.

use anyhow::{Context, Result};
use hm_domain::id::RunId;
use hm_store::{PrivatePostgres, Rebuilt, Store, StoreError};

use crate::cli::{DbCommand, ProveArgs};
use crate::prove::archive;
use crate::prove::attest::write_line;
use crate::prove::event_proof::EventProof;
use crate::prove::held::Anchors;
use crate::prove::key::Key;
use crate::steer::audit;
use crate::steer::audit_views;
use crate::terminal;
use crate::workplace::Workplace;

pub(crate) fn run(workplace: &Workplace, command: DbCommand) -> Result<u8> {
    match command {
        DbCommand::Url => println!("{}", workplace.database_url()?),
        DbCommand::Psql { args } => {
            let url = workplace.database_url()?;
            let status =
                std::process::Command::new("psql").arg(url).args(args).status().context(
                    "cannot start psql; install it with: apt-get install postgresql-client",
                )?;
            return Ok(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1));
        }
        DbCommand::Migrate => {
            workplace.store()?;
            println!("the tables of the database are those of this program");
        }
        DbCommand::Roles => print!("{}", hm_store::ROLES),
        DbCommand::Rebuild { run, check: true } => {
            let store = workplace.store_to_read()?;
            let found = workplace.find_run(&store, &run)?;
            let report = workplace.runtime.block_on(store.check_views(found.run_id))?;
            return Ok(u8::from(!audit_views::print(&found.name, &report)));
        }
        DbCommand::Rebuild { run, check: false } => {
            let store = workplace.store()?;
            let found = workplace.find_run(&store, &run)?;
            let Rebuilt { events, rows } =
                workplace.runtime.block_on(store.rebuild(found.run_id))?;
            println!(
                "the projections of {found} are what its {events} events give: {rows} rows mended"
            );
        }
        DbCommand::Archive(args) => return archive::archive(workplace, &args),
        DbCommand::Restore { folder } => return archive::restore(workplace, &folder),
        DbCommand::Prove(ProveArgs { run, seq, output }) => {
            let source = audit::open(workplace, &run)?;
            workplace.make_data_dir()?;
            Anchors::allow_signing(&workplace.data_dir, &*source)?;
            let proof = EventProof::of(&*source, seq, &Key::of(&workplace.data_dir)?)?;
            write_line(&output, serde_json::to_vec(&proof)?)?;
            println!("event {seq} is proved by {}", output.display());
        }
        DbCommand::Stop => {
            tell_in_use(workplace);
            PrivatePostgres::stop_in(&workplace.data_dir)?;
            println!("the private database is stopped");
        }
    }
    Ok(0)
}

/// Tells whose runs are trained on it: a worker whose database is stopped waits for it for some minutes, and
/// then its run ends unsaved.
fn tell_in_use(workplace: &Workplace) {
    match trained_now(workplace) {
        Ok(trained) if trained.is_empty() => {}
        Ok(trained) => eprintln!(
            "stopped under runs that are trained on it, which wait for some minutes until any `hm` command, \
             such as `hm runs ls`, starts it again: {}",
            trained.join(", ")
        ),
        Err(error) => eprintln!("whether runs are trained on it is not known: {error:#}"),
    }
}

fn trained_now(workplace: &Workplace) -> Result<Vec<String>> {
    let Some(url) = PrivatePostgres::url_in(&workplace.data_dir)? else { return Ok(Vec::new()) };
    let trained = workplace.runtime.block_on(async {
        let Some(store) = Store::connect_to_look(&url).await? else { return Ok(Vec::new()) };
        let rows = store.runs().await?;
        let ids: Vec<RunId> = rows.iter().map(|row| RunId(row.run_id)).collect();
        let workers = store.workers(&ids).await?;
        let living = rows.into_iter().zip(&workers).filter_map(|(row, worker)| {
            let holder = terminal::line(worker.living()?);
            Some(format!("{} ({}) by {holder}", terminal::line(&row.name), row.run_id))
        });
        Ok::<_, StoreError>(living.collect::<Vec<String>>())
    });
    Ok(trained?)
}
