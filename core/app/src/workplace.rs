//! Where things lie, and the runtime that talks to the database.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use hm_domain::id::RunId;
use hm_domain::plugin::Limits;
use hm_host::Host;
use hm_store::Store;

use crate::registry::Registry;

/// One per process.
pub(crate) struct Workplace {
    pub(crate) data_dir: PathBuf,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Workplace {
    /// Makes the data folder if need be.
    pub(crate) fn open(data_dir: Option<PathBuf>) -> Result<Workplace> {
        let data_dir = match data_dir {
            Some(folder) => folder,
            None => hm_store::default_data_dir()?,
        };
        std::fs::create_dir_all(&data_dir)
            .with_context(|| format!("cannot make data folder {}", data_dir.display()))?;
        let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
        Ok(Workplace { data_dir, runtime })
    }

    /// The database, started if it is the private one.
    pub(crate) fn store(&self) -> Result<Store> {
        let url = hm_store::database_url(&self.data_dir)?;
        Ok(self.runtime.block_on(Store::connect(&url))?)
    }

    /// Plugins of this process.
    pub(crate) fn registry(&self, store: &Store) -> Result<Registry> {
        let host = Host::new(Limits::default())?;
        Ok(Registry::new(store.clone(), host, self.runtime.handle().clone()))
    }

    /// A run by name or id.
    pub(crate) fn find_run(&self, store: &Store, run: &str) -> Result<RunId> {
        self.runtime
            .block_on(store.find_run(run))?
            .ok_or_else(|| anyhow!("no run `{run}`; see `hm runs ls`"))
    }
}

/// Who sends commands from this terminal.
pub(crate) fn user() -> String {
    std::env::var("USER").unwrap_or_else(|_| "terminal".to_owned())
}
