//! The page's side, which shares only the database with a worker.

pub(crate) mod backend;
pub(crate) mod serve;
pub(crate) mod timeline;
pub(crate) mod validations;
