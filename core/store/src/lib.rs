//! The event log in Postgres: append, read, chain, journal, projections and a private cluster.
//!
//! The only crate that knows sqlx and rkyv. It decides nothing about a run.

mod append;
mod archive;
pub mod codec;
mod commands;
mod connection;
mod error;
mod holder;
mod journal;
mod lease;
mod plugins;
mod private_postgres;
mod projection;
mod store;
mod views;
mod worker;

pub use archive::{ArchiveManifest, ArchiveReader, ArchiveWriter};
pub use commands::{Put, StoredCommand};
pub use error::{Result, StoreError};
pub use journal::{Journal, JournalLimits};
pub use lease::{Namesakes, WriterLease};
pub use plugins::PluginRow;
pub use private_postgres::{
    PrivatePostgres, Standing, database_as_it_stands, database_is_private, database_url,
    default_data_dir,
};
pub use projection::{Rebuilt, ViewDifference, ViewsReport};
pub use store::{ChainReport, FoundRun, Head, Store, StoredEvent};
pub use views::{MetricPoint, Metrics, RunRow};
pub use worker::Worker;

/// SQL for the tables' owner: a role that trains and can change nothing of the past, and one that reads.
pub const ROLES: &str = include_str!("roles.sql");
