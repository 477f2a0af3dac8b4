//! What leaves the database so that others can hold it to its word: signed heads, archives, proofs of
//! single events, statements of an audit.

pub(crate) mod anchors;
pub(crate) mod archive;
pub(crate) mod attest;
pub(crate) mod command;
pub(crate) mod dsse;
pub(crate) mod event_proof;
pub(crate) mod held;
pub(crate) mod key;
