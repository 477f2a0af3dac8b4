//! A run from outside: asked, steered and audited by whoever has the database.

pub(crate) mod audit;
mod audit_system;
pub(crate) mod audit_views;
pub(crate) mod parent;
pub(crate) mod runs;
pub(crate) mod show;
pub(crate) mod told;
pub(crate) mod wishes;
