//! A worker and its run: from what is asked before it trains to how it ends.

pub(crate) mod admit;
pub(crate) mod anchor;
pub(crate) mod checkpoints;
pub(crate) mod ended;
pub(crate) mod environment;
pub(crate) mod fork;
pub(crate) mod inbox;
pub(crate) mod kept_states;
pub(crate) mod notices;
pub(crate) mod preparations;
pub(crate) mod registry;
pub(crate) mod resume;
pub(crate) mod rollback;
pub(crate) mod run_end;
pub(crate) mod run_loop;
pub(crate) mod run_states;
pub(crate) mod save;
pub(crate) mod saving;
pub(crate) mod throughput;
pub(crate) mod train;
pub(crate) mod validation;
pub(crate) mod worker;
