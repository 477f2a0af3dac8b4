//! The rules of `HeuriMentor`: what a run is, what happened in it, and what follows from that.
//!
//! Pure: no IO, no clock, no randomness, no async. Two folds of one log are equal on any machine.

pub mod id;

pub mod mixture;

pub mod batch;

pub mod schedule;

pub mod spec;

pub mod step;

pub mod checkpoint;

pub mod catalogue;

pub mod plugin;

pub mod event;

pub mod chain;

pub mod rules;

#[cfg(test)]
mod testing;

pub mod state;

pub(crate) mod observe;

pub mod calls;

pub mod effects;

pub mod mentor;

pub mod command;

pub mod audit;
