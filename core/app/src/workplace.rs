//! Where things lie, and the runtime that talks to the database.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use hm_domain::event::Event;
use hm_domain::id::RunId;
use hm_domain::plugin::Limits;
use hm_domain::spec::RunSpec;
use hm_host::Host;
use hm_store::{FoundRun, Store, StoreError};

use crate::runtime::Runtime;
use crate::work::registry::Registry;

/// Digits of an id that may stand for it.
const DIGITS_MIN: usize = 4;

/// One per process.
pub(crate) struct Workplace {
    /// Perhaps not there yet: see [`Workplace::make_data_dir`].
    pub(crate) data_dir: PathBuf,
    pub(crate) runtime: Runtime,
}

impl Workplace {
    /// Writes nothing.
    pub(crate) fn open(data_dir: Option<PathBuf>) -> Result<Workplace> {
        let data_dir = match data_dir {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => hm_store::default_data_dir()?,
        };
        Ok(Workplace { data_dir, runtime: Runtime::start()? })
    }

    /// Makes the data folder, for those who are about to put something into it.
    pub(crate) fn make_data_dir(&self) -> Result<()> {
        std::fs::create_dir_all(&self.data_dir).with_context(|| {
            let folder = self.data_dir.display();
            format!("cannot make data folder {folder}; name another with --data-dir or HM_DATA_DIR")
        })
    }

    /// Address of the database, started if it is the private one.
    pub(crate) fn database_url(&self) -> Result<String> {
        self.make_data_dir()?;
        Ok(hm_store::database_url(&self.data_dir)?)
    }

    /// The database, started if it is the private one, over a single connection: a shared server may
    /// give its users few, and a command asks one thing at a time.
    pub(crate) fn store(&self) -> Result<Store> {
        self.store_over(1)
    }

    /// The same over at most so many connections.
    pub(crate) fn store_over(&self, connections_max: u32) -> Result<Store> {
        let url = self.database_url()?;
        Ok(self.runtime.block_on(Store::connect(&url, connections_max))?)
    }

    /// The same for a command that writes nothing: a role that may read is enough, and tables of another
    /// version are told, not changed. A private database that is new holds nothing yet, which is no error.
    pub(crate) fn store_to_read(&self) -> Result<Store> {
        let url = self.database_url()?;
        match self.runtime.block_on(Store::connect_to_read(&url, 1)) {
            Err(StoreError::NoTables) if hm_store::database_is_private() => self.store(),
            read => Ok(read?),
        }
    }

    /// Plugins of this process.
    pub(crate) fn registry(&self, store: &Store) -> Result<Registry> {
        let host = Host::new(Limits::default())?;
        Ok(Registry::new(store.clone(), host, self.runtime.handle().clone()))
    }

    /// A run by name or id. Where several have the name, says which one it is.
    pub(crate) fn find_run(&self, store: &Store, run: &str) -> Result<FoundRun> {
        let found = self
            .runtime
            .block_on(store.find_run(run))?
            .map_or_else(|| self.find_run_by_digits(store, run), Ok)?;
        if found.namesakes > 1 {
            let FoundRun { run_id, name, namesakes } = &found;
            eprintln!(
                "{namesakes} runs are called {name}: this is the one that began last, {run_id}; name another by its id"
            );
        }
        Ok(found)
    }

    /// Where the checkpoints of a run lie.
    pub(crate) fn checkpoints_of(&self, id: RunId) -> PathBuf {
        checkpoints_in(&self.data_dir, id)
    }

    /// A run by the first digits of its id, where no other begins with them.
    fn find_run_by_digits(&self, store: &Store, digits: &str) -> Result<FoundRun> {
        let unknown = || anyhow!("no run `{digits}`; see `hm runs ls`");
        let is_digit = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
        if digits.len() < DIGITS_MIN || !digits.bytes().all(is_digit) {
            return Err(unknown());
        }
        let rows = self.runtime.block_on(store.runs())?;
        let mut found = rows.iter().filter(|row| row.run_id.to_string().starts_with(digits));
        match (found.next(), found.count()) {
            (None, _) => Err(unknown()),
            (Some(row), 0) => {
                let (run_id, name) = (RunId(row.run_id), row.name.clone());
                Ok(FoundRun { run_id, name, namesakes: 1 })
            }
            (Some(_), more) => {
                bail!("the ids of {} runs begin with {digits}: type more of one", more + 1)
            }
        }
    }

    /// The spec in the first event of a run's log.
    pub(crate) fn begun_with(&self, store: &Store, id: RunId) -> Result<RunSpec> {
        let first = self.runtime.block_on(store.read(id, 0, 1))?.into_iter().next();
        let Some(Event::RunStarted(started)) = first.map(|recorded| recorded.event) else {
            bail!("the log of run {id} does not begin with run-started");
        };
        Ok(serde_json::from_str(&started.spec)?)
    }
}

/// Who sends commands from this terminal.
pub(crate) fn user() -> String {
    std::env::var("USER").unwrap_or_else(|_| "terminal".to_owned())
}

/// Where the checkpoints of a run lie in a data folder.
pub(crate) fn checkpoints_in(data_dir: &Path, id: RunId) -> PathBuf {
    data_dir.join("checkpoints").join(id.to_string())
}
