//! How much there is to compile, counted before anything is compiled. Compiling knows no fuel and cannot
//! be ended, and a few bytes can ask for hours of it: what would is refused, with numbers.
//!
//! The bounds are some three times what a Python guest (componentize-py: 13,500 functions, 6.5 MB of
//! code) or a JavaScript guest (componentize-js: 12,700 functions, 9.2 MB) has, of each kind. Those
//! compile in some ten seconds of one core and 450 MB. The prices below were measured on components that
//! hold one kind only, on a core of 2026: whatever is at one of the bounds takes less than half a minute,
//! and some hundred MB for each of the two threads beside its machine code.

mod body;

use std::ops::Range;

use wasmparser::{CompositeInnerType, Encoding, FunctionBody, Parser, Payload, TypeSectionReader};

use self::body::Body;
use crate::bounds::MEMORIES_MAX;

/// Functions with a body, in all modules: each takes 45 us and 6 kB, however empty it is.
const FUNCTIONS_MAX: u64 = 60_000;
/// Operators and locals of all bodies: the dearest take some 3 us.
const OPERATORS_MAX: u64 = 12_000_000;
/// Jumps of all bodies: a call takes 5 us.
const JUMPS_MAX: u64 = 2_000_000;
/// Jumps of each body, squared, and added: what a compiler does grows so, at 1 to 2 ns.
const JUMPS_SQUARED_MAX: u64 = 1_500_000_000;
/// Joins of all bodies: 2 us each.
const JOINS_MAX: u64 = 4_000_000;
/// Joins of each body, squared, and added: they come to 0.1 ns each on top.
const JOINS_SQUARED_MAX: u64 = 120_000_000_000;
/// Lookups of all bodies: 50 ns.
const LOOKUPS_MAX: u64 = 20_000_000;
/// Types, imports, exports, globals, entries of tables, segments and their items, in all modules and
/// components. An entry takes 15 bytes whether anything is said of it or not.
const DECLARATIONS_MAX: u64 = 100_000;
/// Bytes of a component's types that count as one: types lie within types.
const TYPE_BYTES: u64 = 4;
/// Parameters of a function.
const PARAMETERS_MAX: u64 = 100;
/// Results of a function: each call or branch carries them, and is two bytes.
const RESULTS_MAX: u64 = 16;
/// Core modules: a Python guest has one for each of its libraries.
const MODULES_MAX: u64 = 100;
/// Core instances that a component declares.
const INSTANCES_MAX: u64 = 400;
/// Components within the component, and instances of them. Few, since each may hold several of another.
const COMPONENTS_MAX: u64 = 8;
/// Functions that cross between the component and its modules: of both worlds there are no more than six.
const CROSSINGS_MAX: u64 = 32;

/// Why a component is not compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotCompiled {
    /// Of something there is more than there may be.
    #[error(
        "too much to compile: {found} {what}, and there may be {most}; build it optimized for size"
    )]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much there is, as far as it was counted.
        found: u64,
        /// How much there may be.
        most: u64,
    },
    /// It cannot even be read. Not left to the compiler: it might compile the rest meanwhile.
    #[error("not a valid component, perhaps cut off: {0}")]
    Malformed(#[from] wasmparser::BinaryReaderError),
}

/// Refuses what would take too long or too much memory to compile.
pub(crate) fn check(wasm: &[u8]) -> Result<(), NotCompiled> {
    let mut size = Size::default();
    for payload in Parser::new(0).parse_all(wasm) {
        size.count(&payload?)?;
    }
    Ok(())
}

/// Ok up to `most`.
fn bounded(what: &'static str, found: u64, most: u64) -> Result<(), NotCompiled> {
    if found <= most { Ok(()) } else { Err(NotCompiled::TooMuch { what, found, most }) }
}

/// What was counted so far.
#[derive(Default)]
struct Size {
    functions: u64,
    operators: u64,
    jumps: u64,
    jumps_squared: u64,
    joins: u64,
    joins_squared: u64,
    lookups: u64,
    declarations: u64,
    modules: u64,
    instances: u64,
    components: u64,
    component_instances: u64,
    crossings: u64,
    /// A byte at the far end of one may make an image of 32 MB.
    memories: u64,
    /// Parameters and results of the function types of the module at hand.
    types: Vec<(u64, u64)>,
}

impl Size {
    fn count(&mut self, payload: &Payload<'_>) -> Result<(), NotCompiled> {
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } => self.types.clear(),
            Payload::ModuleSection { .. } => {
                self.modules += 1;
                return bounded("core modules", self.modules, MODULES_MAX);
            }
            Payload::InstanceSection(section) => {
                self.instances += u64::from(section.count());
                return bounded("core instances", self.instances, INSTANCES_MAX);
            }
            Payload::ComponentSection { .. } => {
                self.components += 1;
                return bounded("components within it", self.components, COMPONENTS_MAX);
            }
            Payload::ComponentInstanceSection(section) => {
                self.component_instances += u64::from(section.count());
                let found = self.component_instances;
                return bounded("instances of components within it", found, COMPONENTS_MAX);
            }
            Payload::ComponentCanonicalSection(section) => {
                self.crossings += u64::from(section.count());
                let what = "functions between component and modules";
                return bounded(what, self.crossings, CROSSINGS_MAX);
            }
            Payload::MemorySection(section) => {
                self.memories += u64::from(section.count());
                return bounded("memories", self.memories, u64::from(MEMORIES_MAX));
            }
            Payload::FunctionSection(section) => {
                self.functions += u64::from(section.count());
                return bounded("functions", self.functions, FUNCTIONS_MAX);
            }
            Payload::CodeSectionEntry(body) => return self.body(body),
            Payload::TypeSection(section) => return self.module_types(section),
            _ => {}
        }
        self.declare(declarations(payload)?)
    }

    fn declare(&mut self, count: u64) -> Result<(), NotCompiled> {
        self.declarations = self.declarations.saturating_add(count);
        let what = "types, imports, exports, globals, entries of tables, segments and their items";
        bounded(what, self.declarations, DECLARATIONS_MAX)
    }

    fn module_types(&mut self, section: &TypeSectionReader<'_>) -> Result<(), NotCompiled> {
        for group in section.clone() {
            for ty in group?.into_types() {
                let (parameters, results) = match &ty.composite_type.inner {
                    CompositeInnerType::Func(ty) => (ty.params().len(), ty.results().len()),
                    _ => (0, 0),
                };
                let (parameters, results) = (parameters as u64, results as u64);
                bounded("parameters of one function", parameters, PARAMETERS_MAX)?;
                bounded("results of one function", results, RESULTS_MAX)?;
                self.declare(1)?;
                self.types.push((parameters, results));
            }
        }
        Ok(())
    }

    fn body(&mut self, body: &FunctionBody<'_>) -> Result<(), NotCompiled> {
        let Body { operators, jumps, joins, lookups } = Body::count(body, &self.types)?;
        self.operators += operators;
        self.jumps += jumps;
        self.jumps_squared += jumps * jumps;
        self.joins += joins;
        self.joins_squared += joins * joins;
        self.lookups += lookups;
        bounded("operators and locals", self.operators, OPERATORS_MAX)?;
        bounded("labels, branches and calls", self.jumps, JUMPS_MAX)?;
        let what = "labels, branches and calls of a function, squared and added up over functions";
        bounded(what, self.jumps_squared, JUMPS_SQUARED_MAX)?;
        bounded("values that meet where branches meet", self.joins, JOINS_MAX)?;
        let what = "values that meet in a function, squared and added up over functions";
        bounded(what, self.joins_squared, JOINS_SQUARED_MAX)?;
        bounded("locals times branches, added up over functions", self.lookups, LOOKUPS_MAX)
    }
}

/// What a section declares, beside what is counted by itself.
fn declarations(payload: &Payload<'_>) -> Result<u64, NotCompiled> {
    use wasmparser::ElementItems::{Expressions, Functions};
    let count = match payload {
        Payload::ImportSection(section) => section.count(),
        Payload::ExportSection(section) => section.count(),
        Payload::GlobalSection(section) => section.count(),
        Payload::TagSection(section) => section.count(),
        Payload::DataSection(section) => section.count(),
        Payload::ComponentAliasSection(section) => section.count(),
        Payload::ComponentImportSection(section) => section.count(),
        Payload::ComponentExportSection(section) => section.count(),
        Payload::CoreTypeSection(section) => return Ok(types(&section.range())),
        Payload::ComponentTypeSection(section) => return Ok(types(&section.range())),
        Payload::TableSection(section) => {
            let mut count = 0u64;
            for table in section.clone() {
                count = count.saturating_add(1).saturating_add(table?.ty.initial);
            }
            return Ok(count);
        }
        Payload::ElementSection(section) => {
            let mut count = u64::from(section.count());
            for segment in section.clone() {
                count += match segment?.items {
                    Functions(items) => u64::from(items.count()),
                    Expressions(_, items) => u64::from(items.count()),
                };
            }
            return Ok(count);
        }
        _ => 0,
    };
    Ok(count.into())
}

fn types(section: &Range<u64>) -> u64 {
    (section.end - section.start).div_ceil(TYPE_BYTES)
}

#[cfg(test)]
mod tests;
