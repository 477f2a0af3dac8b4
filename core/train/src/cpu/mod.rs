//! The training step's kernels for the CPU: plain slices in, plain slices out, rows shared out to the
//! thread pool, loops that compile to the widest vectors of the processor at hand.
//!
//! Every sum is taken in an order that depends on shapes alone, never on the number of threads.

pub(crate) mod adamw;
pub(crate) mod attention;
pub(crate) mod cross_entropy;
pub(crate) mod gate;
pub(crate) mod matrix;
pub(crate) mod norm;
pub(crate) mod rotary;
mod vector;

/// Rows that one task takes at a time.
const TASK_ROWS: usize = 32;
/// Elements that one task takes at a time, where there are no rows.
const TASK_ELEMENTS: usize = 1 << 15;
