//! What a run would be and cost, before it starts.

pub(crate) mod costs;
pub(crate) mod dry_run;
pub(crate) mod free_memory;
pub(crate) mod memory;
pub(crate) mod outlook;
