//! Installed plugins: bytes, what they say of themselves, and the check they passed. Checks nothing
//! itself: the host has done so before.

use hm_domain::event::{Event, PluginInstalled};
use hm_domain::id::{Digest, RunId};
use hm_domain::plugin::{Description, World};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use crate::error::{Result, StoreError};
use crate::lease::WriterLease;
use crate::store::{Store, digest};

/// One installed plugin, without its bytes.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PluginRow {
    /// SHA-256 of the component.
    pub digest: Digest,
    /// World it implements.
    pub world: World,
    /// Interface version, as `0.1.0`.
    pub interface: String,
    /// What it says of itself.
    pub description: Description,
    /// The conformance check's report.
    pub check: serde_json::Value,
    /// Microseconds since the Unix epoch.
    pub installed_at: i64,
}

const COLUMNS: &str =
    "select digest, world, interface, description, checks, installed_at from plugin";

fn world_name(world: World) -> &'static str {
    match world {
        World::Policy => "policy",
        World::Detector => "detector",
    }
}

fn plugin_row(row: &PgRow) -> Result<PluginRow> {
    let corrupt = |error: serde_json::Error| StoreError::Corrupt(format!("plugin table: {error}"));
    Ok(PluginRow {
        digest: digest(row, "digest")?,
        world: if row.try_get::<&str, _>("world")? == "policy" {
            World::Policy
        } else {
            World::Detector
        },
        interface: row.try_get("interface")?,
        description: serde_json::from_value(row.try_get("description")?).map_err(corrupt)?,
        check: row.try_get("checks")?,
        installed_at: row.try_get("installed_at")?,
    })
}

impl Store {
    /// Keeps a plugin and says so on the system stream, both or neither. False when the same bytes were there already.
    pub async fn install_plugin(&self, plugin: &PluginRow, wasm: &[u8], by: &str) -> Result<bool> {
        if Digest::of(wasm) != plugin.digest {
            return Err(StoreError::Corrupt(format!(
                "these bytes are not plugin {}",
                plugin.digest
            )));
        }
        let known = "select exists (select from plugin where digest = $1)";
        if sqlx::query_scalar(known).bind(&plugin.digest.0[..]).fetch_one(&self.pool).await? {
            return Ok(false);
        }
        let event = Event::PluginInstalled(PluginInstalled {
            plugin: plugin.digest,
            name: plugin.description.name.clone(),
            version: plugin.description.version.clone(),
            world: plugin.world,
            by: by.to_owned(),
        });
        let mut lease = self.acquire_system().await?;
        let installed = lease.install(plugin, wasm, event).await?;
        lease.release().await?;
        Ok(installed)
    }

    /// The plugin that is called so: by its digest or at least six of its digits, which win over any
    /// name; by name@version; or by its name alone, which is the one installed last.
    ///
    /// # Errors
    /// [`StoreError::Ambiguous`] where digits or name@version fit several: a plugin that was built anew
    /// under its old version, or another's that took its name, is never bound by mistake.
    pub async fn plugin(&self, wanted: &str) -> Result<Option<PluginRow>> {
        if Digest::may_begin_with(wanted) {
            let begins = "encode(digest, 'hex') like lower($1) || '%'";
            if let Some(found) = self.only(begins, wanted).await? {
                return Ok(Some(found));
            }
        }
        if let Some(found) = self.only("name || '@' || version = $1", wanted).await? {
            return Ok(Some(found));
        }
        Ok(self.matching("name = $1", wanted).await?.into_iter().next())
    }

    /// Plugins that say they are this one, the one installed last first.
    pub async fn plugins_called(&self, name: &str, version: &str) -> Result<Vec<PluginRow>> {
        let called = format!("{name}@{version}");
        let mut rows = self.matching("name || '@' || version = $1", &called).await?;
        rows.retain(|row| row.description.name == name);
        Ok(rows)
    }

    /// The one that matches, if any does.
    async fn only(&self, condition: &str, wanted: &str) -> Result<Option<PluginRow>> {
        let mut rows = self.matching(condition, wanted).await?;
        if rows.len() > 1 {
            let plugins = rows.iter().map(|row| row.digest).collect();
            return Err(StoreError::Ambiguous { wanted: wanted.to_owned(), plugins });
        }
        Ok(rows.pop())
    }

    async fn matching(&self, condition: &str, wanted: &str) -> Result<Vec<PluginRow>> {
        let text = format!("{COLUMNS} where {condition} order by installed_at desc, digest");
        let rows =
            sqlx::query(sqlx::AssertSqlSafe(text)).bind(wanted).fetch_all(&self.pool).await?;
        rows.iter().map(plugin_row).collect()
    }

    /// A plugin's bytes, which are what its digest says.
    pub async fn plugin_wasm(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        let found: Option<(Vec<u8>, String)> =
            sqlx::query_as("select wasm, name || '@' || version from plugin where digest = $1")
                .bind(&digest.0[..])
                .fetch_optional(&self.pool)
                .await?;
        match found {
            Some((wasm, called)) if Digest::of(&wasm) != digest => {
                Err(StoreError::Corrupt(format!(
                    "plugin {called} of digest {digest} is not there: the database has other bytes under \
                     its digest, {}; install it again from its file into a database of its own",
                    Digest::of(&wasm)
                )))
            }
            found => Ok(found.map(|(wasm, _)| wasm)),
        }
    }

    /// All plugins, newest first.
    pub async fn plugins(&self) -> Result<Vec<PluginRow>> {
        let text = format!("{COLUMNS} order by installed_at desc, digest");
        let rows = sqlx::query(sqlx::AssertSqlSafe(text)).fetch_all(&self.pool).await?;
        rows.iter().map(plugin_row).collect()
    }

    /// The system stream, which is held only for moments: waits for its turn.
    async fn acquire_system(&self) -> Result<WriterLease> {
        let mut attempts = 0;
        loop {
            match self.acquire_writer(RunId::SYSTEM).await {
                Err(StoreError::Held { .. }) if attempts < 20 => attempts += 1,
                other => return other,
            }
        }
    }
}

/// Keeps a plugin's row. False when the same bytes were there already.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    plugin: &PluginRow,
    wasm: &[u8],
) -> Result<bool> {
    let description = &plugin.description;
    let inserted = sqlx::query(
        "insert into plugin (digest, wasm, world, interface, name, version, description, checks, installed_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing",
    )
    .bind(&plugin.digest.0[..])
    .bind(wasm)
    .bind(world_name(plugin.world))
    .bind(&plugin.interface)
    .bind(&description.name)
    .bind(&description.version)
    .bind(sqlx::types::Json(description))
    .bind(&plugin.check)
    .bind(plugin.installed_at)
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() == 1)
}
