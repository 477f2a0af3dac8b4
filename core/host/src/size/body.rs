//! One function's part: what a compiler must hold together at once, so bounded for itself.

use wasmparser::{BlockType, FunctionBody, Operator};

use super::{NotCompiled, bounded};

/// Bytes of a body.
const BYTES_MAX: u64 = 2 << 20;
/// Operators and locals of a body. The largest body of a Python guest, which only sets addresses right, has
/// 167,000.
const OPERATORS_MAX: u64 = 500_000;
/// Jumps of a body: up to a second and 250 MB. The largest of real guests have 9,000 and as many calls.
const JUMPS_MAX: u64 = 25_000;
/// Joins of a body: up to four seconds and 250 MB.
const JOINS_MAX: u64 = 200_000;
/// Lookups of a body: 80 MB.
const LOOKUPS_MAX: u64 = 2_000_000;
/// Locals of a body that are declared.
const LOCALS_MAX: u64 = 5_000;
/// Jumps that a check of a table's entry comes to.
const LOOKUP_JUMPS: u64 = 3;

/// What was counted of a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Body {
    /// Operators and declared locals.
    pub(super) operators: u64,
    /// Places at which its flow parts, meets or leaves: labels, branches, calls.
    pub(super) jumps: u64,
    /// Values that may differ by the way that led to a label: for every label the locals that are set
    /// within it and the values it takes, times the ways to it. A compiler has to carry each of them
    /// along each way.
    pub(super) joins: u64,
    /// Declared locals times jumps: at each place it may have to be found out where each local was set.
    pub(super) lookups: u64,
}

/// A label that is open.
struct Label {
    /// Bits of the locals that are set within.
    set: Vec<u64>,
    /// Ways to it.
    ways: u64,
    /// Values that each way brings.
    values: u64,
}

impl Body {
    /// Counts one body of a module with these types.
    pub(super) fn count(
        body: &FunctionBody<'_>,
        types: &[(u64, u64)],
    ) -> Result<Body, NotCompiled> {
        let range = body.range();
        bounded("bytes of one function", range.end - range.start, BYTES_MAX)?;
        let mut locals = 0;
        for group in body.get_locals_reader()? {
            locals += u64::from(group?.0);
            bounded("locals of one function", locals, LOCALS_MAX)?;
        }
        let mut flow = Flow::new(locals, types);
        for operator in body.get_operators_reader()? {
            flow.count(&operator?)?;
        }
        let lookups = locals * flow.body.jumps;
        bounded("locals times branches of one function", lookups, LOOKUPS_MAX)?;
        Ok(Body { lookups, ..flow.body })
    }
}

/// A body as far as it was read.
struct Flow<'a> {
    body: Body,
    labels: Vec<Label>,
    words: usize,
    types: &'a [(u64, u64)],
}

impl<'a> Flow<'a> {
    fn new(locals: u64, types: &'a [(u64, u64)]) -> Flow<'a> {
        // Parameters are locals, too.
        let words = (locals + super::PARAMETERS_MAX).div_ceil(64) as usize;
        let body = Body { operators: locals, ..Body::default() };
        let mut flow = Flow { body, labels: Vec::new(), words, types };
        flow.open(0);
        flow
    }

    fn count(&mut self, operator: &Operator<'_>) -> Result<(), NotCompiled> {
        self.body.operators += 1;
        match operator {
            Operator::Block { blockty } | Operator::If { blockty } => {
                self.open(self.arity(*blockty).1);
                self.body.jumps += 1;
            }
            Operator::Loop { blockty } => {
                self.open(self.arity(*blockty).0);
                self.body.jumps += 1;
            }
            Operator::Else => {
                self.way(0);
                self.body.jumps += 1;
            }
            Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => {
                self.way(*relative_depth);
                self.body.jumps += 1;
            }
            Operator::BrTable { targets } => {
                for target in targets.targets() {
                    self.way(target?);
                }
                self.way(targets.default());
                self.body.operators += u64::from(targets.len());
                self.body.jumps += 1;
            }
            // What grows, copies and fills is a call of the host's.
            Operator::Call { .. }
            | Operator::ReturnCall { .. }
            | Operator::Return
            | Operator::MemoryGrow { .. }
            | Operator::MemoryCopy { .. }
            | Operator::MemoryFill { .. }
            | Operator::MemoryInit { .. }
            | Operator::TableGrow { .. }
            | Operator::TableCopy { .. }
            | Operator::TableFill { .. }
            | Operator::TableInit { .. } => self.body.jumps += 1,
            Operator::CallIndirect { .. }
            | Operator::ReturnCallIndirect { .. }
            | Operator::TableGet { .. } => self.body.jumps += LOOKUP_JUMPS,
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
                self.set(*local_index);
            }
            Operator::End => self.close(),
            _ => {}
        }
        bounded("operators and locals of one function", self.body.operators, OPERATORS_MAX)?;
        bounded("labels, branches and calls of one function", self.body.jumps, JUMPS_MAX)?;
        let what = "values that meet where branches of one function meet";
        bounded(what, self.body.joins, JOINS_MAX)
    }

    /// Values that a block takes and gives.
    fn arity(&self, block: BlockType) -> (u64, u64) {
        match block {
            BlockType::Empty => (0, 0),
            BlockType::Type(_) => (0, 1),
            // What has no such type is refused by the compiler.
            BlockType::FuncType(ty) => self.types.get(ty as usize).copied().unwrap_or_default(),
        }
    }

    fn open(&mut self, values: u64) {
        self.labels.push(Label { set: vec![0; self.words], ways: 1, values });
    }

    /// One more way to the label so far out.
    fn way(&mut self, depth: u32) {
        let place = self.labels.len().checked_sub(1 + depth as usize);
        if let Some(place) = place {
            self.labels[place].ways += 1;
        }
    }

    fn set(&mut self, local: u32) {
        let innermost = self.labels.last_mut();
        if let Some(word) = innermost.and_then(|label| label.set.get_mut(local as usize / 64)) {
            *word |= 1 << (local % 64);
        }
    }

    fn close(&mut self) {
        let Some(label) = self.labels.pop() else { return };
        let set: u64 = label.set.iter().map(|word| u64::from(word.count_ones())).sum();
        self.body.joins += (set + label.values) * label.ways;
        if let Some(outer) = self.labels.last_mut() {
            outer.set.iter_mut().zip(label.set).for_each(|(outer, inner)| *outer |= inner);
        }
    }
}
