//! A run from outside: asked, steered and audited by whoever has the database.

pub(crate) mod audit;
pub(crate) mod audit_data;
pub(crate) mod audit_deeper;
mod audit_system;
pub(crate) mod audit_training;
pub(crate) mod audit_views;
pub(crate) mod fold;
pub(crate) mod parent;
pub(crate) mod runs;
pub(crate) mod show;
pub(crate) mod stretches;
pub(crate) mod told;
pub(crate) mod wishes;
