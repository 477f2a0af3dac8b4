use super::*;

/// A component of one module in text.
fn component(module: &str) -> Vec<u8> {
    wat::parse_str(format!("(component (core module {module}))")).unwrap()
}

fn refusal(wasm: &[u8]) -> String {
    check(wasm).unwrap_err().to_string()
}

fn refused_for(module: &str, what: &str) {
    let said = refusal(&component(module));
    assert!(said.contains("too much to compile") && said.contains(what), "{said}");
}

#[test]
fn a_component_may_not_hold_more_functions_than_compile_in_seconds() {
    let functions = |count: usize| component(&"(func)".repeat(count));
    assert!(check(&functions(FUNCTIONS_MAX as usize)).is_ok());
    assert_eq!(
        refusal(&functions(FUNCTIONS_MAX as usize + 1)),
        "too much to compile: 60001 functions, and there may be 60000; build it optimized for size"
    );
}

#[test]
fn modules_are_counted_together() {
    let module = format!("(core module {})", "(func)".repeat(FUNCTIONS_MAX as usize / 2 + 1));
    let wasm = wat::parse_str(format!("(component {module} {module})")).unwrap();
    assert!(refusal(&wasm).contains("60002 functions"), "{}", refusal(&wasm));
    let empty = |count: u64| {
        wat::parse_str(format!("(component {})", "(core module)".repeat(count as usize))).unwrap()
    };
    assert!(check(&empty(MODULES_MAX)).is_ok());
    assert!(refusal(&empty(MODULES_MAX + 1)).contains("101 core modules"));
}

#[test]
fn a_function_may_not_branch_more_than_a_compiler_can_hold_together() {
    let branching =
        |count: usize| format!("(func {})", "(block (br_if 0 (i32.const 0)))".repeat(count));
    assert!(check(&component(&branching(12_000))).is_ok());
    refused_for(&branching(13_000), "branches and calls of one function");
    refused_for(&branching(10_000).repeat(4), "squared");
    refused_for(
        &format!("(table 1 funcref) (func {})", "(call_indirect (i32.const 0))".repeat(9_000)),
        "branches and calls of one function",
    );
}

#[test]
fn locals_of_a_function_are_bounded() {
    let locals = |count: usize| format!("(func (local {}))", "i64 ".repeat(count));
    assert!(check(&component(&locals(5_000))).is_ok());
    refused_for(&locals(5_001), "locals of one function");
    // Locals take no bytes: many functions with many of them are little to send.
    refused_for(&locals(5_000).repeat(2_401), "operators and locals");
}

#[test]
fn values_that_meet_at_many_labels_are_bounded() {
    let set: String = (0..400).map(|local| format!("(local.set {local} (i64.const 1))")).collect();
    let nested = |depth: usize| {
        let (open, close) = ("(loop ".repeat(depth), "(br_if 0 (i32.const 0)))".repeat(depth));
        format!("(func (local {}) {open}{set}{close})", "i64 ".repeat(400))
    };
    assert!(check(&component(&nested(200))).is_ok());
    refused_for(&nested(300), "values that meet where branches of one function meet");
    // One table of branches is many ways to its label.
    let table = format!(
        "(func (local {}) (block {set} (br_table {} (i32.const 0))))",
        "i64 ".repeat(400),
        "0 ".repeat(1_000)
    );
    refused_for(&table, "values that meet");
    // A block that takes values is given them by each branch.
    let loop_of_values = format!(
        "(type $many (func (param {})))(func {} (loop (type $many) unreachable {}))",
        "i32 ".repeat(100),
        "(i32.const 0)".repeat(100),
        "(br 0)".repeat(3_000)
    );
    refused_for(&loop_of_values, "values that meet");
}

#[test]
fn many_functions_that_are_each_within_bounds_are_refused_together() {
    let set: String = (0..100).map(|local| format!("(local.set {local} (i64.const 1))")).collect();
    let (open, close) = ("(loop ".repeat(600), "(br_if 0 (i32.const 0)))".repeat(600));
    let joining = format!("(func (local {}) {open}{set}{close})", "i64 ".repeat(100));
    assert!(check(&component(&joining)).is_ok());
    refused_for(&joining.repeat(9), "values that meet in a function, squared");
    let blocks = "(block (br_if 0 (i32.const 0)))".repeat(400);
    let looking = |locals: usize| format!("(func (local {}) {blocks})", "i64 ".repeat(locals));
    assert!(check(&component(&looking(2_000))).is_ok());
    refused_for(&looking(3_000), "locals times branches of one function");
    refused_for(&looking(2_000).repeat(13), "locals times branches, added up");
}

#[test]
fn wide_functions_and_many_declarations_are_refused() {
    refused_for(&format!("(type (func (param {})))", "i32 ".repeat(101)), "parameters");
    refused_for(&format!("(type (func (result {})))", "i32 ".repeat(17)), "results");
    refused_for(&"(global i32 (i32.const 0))".repeat(100_001), "globals");
    // So are entries that nobody mentions, and types within a type.
    refused_for("(table 100001 funcref)", "entries of tables");
    refused_for(&"(table 20000 funcref)".repeat(6), "entries of tables");
    refused_for("(table 0xffffffff funcref)", "entries of tables");
    let types = "(type u32)".repeat(250_000);
    let within = wat::parse_str(format!("(component (type (instance {types})))")).unwrap();
    assert!(refusal(&within).contains("types"), "{}", refusal(&within));
    let items = "0 ".repeat(100_001);
    refused_for(&format!("(func) (table 1 funcref) (elem (i32.const 0) func {items})"), "items");
}

#[test]
fn memories_are_few_since_each_may_hold_a_large_image_of_few_bytes() {
    let module =
        r#"(core module (memory 300) (data (i32.const 0) "x") (data (i32.const 16000000) "x"))"#;
    let of =
        |count: usize| wat::parse_str(format!("(component {})", module.repeat(count))).unwrap();
    assert!(check(&of(4)).is_ok());
    assert!(refusal(&of(5)).contains("5 memories"), "{}", refusal(&of(5)));
}

#[test]
fn components_within_components_are_few() {
    let nested =
        |count: usize| wat::parse_str(format!("(component {})", "(component)".repeat(count)));
    assert!(check(&nested(8).unwrap()).is_ok());
    assert!(refusal(&nested(9).unwrap()).contains("9 components within it"));
    let instances = "(instance (instantiate $a))".repeat(9);
    let wasm = wat::parse_str(format!("(component (component $a) {instances})")).unwrap();
    assert!(refusal(&wasm).contains("9 instances of components within it"));
}

#[test]
fn a_body_that_cannot_be_read_is_not_left_to_the_compiler() {
    let mut wasm = component("(func nop nop nop nop)");
    let at = wasm.windows(4).position(|part| part == [1, 1, 1, 1]).unwrap();
    wasm[at] = 0xff;
    assert!(refusal(&wasm).starts_with("not a valid component"), "{}", refusal(&wasm));
}
