//! From corpora to token shards, and what was lost on the way.

pub(crate) mod changes;
pub(crate) mod prepare;
pub(crate) mod read_report;
