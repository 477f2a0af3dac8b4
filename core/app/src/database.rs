//! `hm db`: the database's address, a shell on it, its projections.

use anyhow::{Context, Result};
use hm_store::PrivatePostgres;

use crate::cli::{DbCommand, ProveArgs};
use crate::prove::archive;
use crate::prove::attest::write_whole;
use crate::prove::event_proof::EventProof;
use crate::prove::key::Key;
use crate::steer::audit;
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
        DbCommand::Rebuild { run } => {
            let store = workplace.store()?;
            let found = workplace.find_run(&store, &run)?;
            let events = workplace.runtime.block_on(store.rebuild(found.run_id))?;
            println!("rebuilt the projections of {found} from {events} events");
        }
        DbCommand::Archive(args) => return archive::archive(workplace, &args),
        DbCommand::Restore { folder } => return archive::restore(workplace, &folder),
        DbCommand::Prove(ProveArgs { run, seq, output }) => {
            let source = audit::open(workplace, &run)?;
            workplace.make_data_dir()?;
            let proof = EventProof::of(&*source, seq, &Key::of(&workplace.data_dir)?)?;
            write_whole(&output, &serde_json::to_vec(&proof)?)?;
            println!("event {seq} is proved by {}", output.display());
        }
        DbCommand::Stop => {
            PrivatePostgres::stop_in(&workplace.data_dir)?;
            println!("the private database is stopped");
        }
    }
    Ok(0)
}
