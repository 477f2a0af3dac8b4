//! The rules of `HeuriMentor`: what a run is, what happened in it, and what follows from that.
//!
//! Pure: no IO, no clock, no randomness, no async. Two folds of one log are equal on any machine.

pub mod attempt;
pub mod audit;
pub mod batch;
pub mod calls;
pub mod catalogue;
pub mod chain;
pub mod checkpoint;
pub mod command;
pub mod curve;
pub(crate) mod difference;
pub mod effects;
pub mod ending;
pub mod event;
pub(crate) mod expected;
pub mod facts;
pub mod follow;
pub mod id;
pub mod knobs;
pub mod limits;
pub mod made;
pub mod mentor;
pub mod merkle;
pub mod mixture;
pub(crate) mod model_spec;
pub(crate) mod observe;
pub mod outcome;
pub mod parameter_kind;
pub mod plugin;
pub mod precision;
pub mod ramp;
pub(crate) mod record;
pub mod rules;
pub mod schedule;
pub mod settings;
pub mod shares;
pub mod snapshot;
pub mod spec;
pub mod state;
pub mod step;
#[cfg(test)]
mod testing;
pub(crate) mod tied;
pub(crate) mod whole;
