//! From bytes to a plugin that can be called: the first five checks.

use hm_domain::catalogue::check_columns;
use hm_domain::command::zero_character;
use hm_domain::id::Digest;
use hm_domain::plugin::{Description, Limits, World};
use hm_domain::settings::{bad_name, shown};
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre};

use crate::call::Program;
use crate::checks::{Check, Passed, Protocol, say};
use crate::guest::{Guest, linker};
use crate::host::{Host, Loaded};
use crate::{producers, size};

/// The interface version that this host speaks.
const INTERFACE: &str = "0.1.0";
/// The types of every interface version start so.
const TYPES: &str = "heurimentor:plugin/types@";

/// Opens a component; each check is entered into the protocol, the first that fails is the error.
pub(crate) fn open(
    host: &Host,
    digest: Digest,
    wasm: &[u8],
    protocol: &mut Protocol,
) -> Result<Loaded, Check> {
    let (engine, limits) = (host.engine(), host.limits());
    protocol.enter("bytes", bytes(wasm, limits))?;
    let component = protocol.enter("component", component(host, wasm))?;
    let version = protocol.enter("imports", imports(engine, &component))?;
    let (world, program) = protocol.enter("world", world(engine, &component, &version))?;
    let description =
        protocol.enter("describe", describe(&program, world, engine, digest, limits))?;
    Ok(Loaded { digest, world, interface: version, description, program })
}

fn bytes(wasm: &[u8], limits: &Limits) -> Passed<()> {
    let (count, largest) = (wasm.len(), limits.upload_bytes_max);
    if count == 0 {
        return Err("there are none: send the component itself".to_owned());
    }
    if count as u64 > largest {
        let remedy = "build it for release, without debug information";
        return Err(format!("{count} bytes are more than the {largest} allowed: {remedy}"));
    }
    // Native code must never get as far as the engine.
    if Engine::detect_precompiled(wasm).is_some() {
        return Err("precompiled native code: upload the component itself".to_owned());
    }
    Ok(((), format!("{count} bytes, not precompiled")))
}

fn component(host: &Host, wasm: &[u8]) -> Passed<Component> {
    match wasm.get(..8) {
        Some([0, b'a', b's', b'm', 0x0d, 0, 1, 0]) => {}
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => {
            let sentence = "a core module, not a component: pack it with `hm plugin build`";
            return Err(sentence.to_owned());
        }
        _ => return Err("not a WebAssembly component: build one with `hm plugin build`".to_owned()),
    }
    size::check(wasm).map_err(|error| error.to_string())?;
    let compiled = host.compiler().compile(|| Component::new(host.engine(), wasm));
    let component = compiled.map_err(|error| {
        format!("not a valid component, perhaps cut off or built for another engine: {error:#}")
    })?;
    Ok((component, format!("a component, built by {}; it compiles here", producers::told(wasm))))
}

/// The interface version that the component speaks.
fn imports(engine: &Engine, component: &Component) -> Passed<String> {
    let ty = component.component_type();
    let mut version = None;
    let mut found = Vec::new();
    for (name, _) in ty.imports(engine) {
        found.push(name.to_owned());
        if let Some(types) = name.strip_prefix(TYPES) {
            version = Some(types.to_owned());
        } else if name.starts_with("wasi:") {
            let remedy = "build for wasm32-unknown-unknown, without WASI";
            return Err(format!("imports `{name}`: {remedy}"));
        } else if name != "log" {
            let remedy = "a plugin may import the interface's types and `log`, nothing else";
            return Err(format!("imports `{name}`: {remedy}"));
        }
    }
    let all = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
    Ok((version.unwrap_or(INTERFACE.to_owned()), format!("imports {all}")))
}

fn world(engine: &Engine, component: &Component, version: &str) -> Passed<(World, Program)> {
    if version != INTERFACE {
        let remedy = format!("build it against wit/{INTERFACE}");
        return Err(format!("speaks interface {version}, this host speaks {INTERFACE}: {remedy}"));
    }
    let ty = component.component_type();
    let exports: Vec<String> = ty.exports(engine).map(|(name, _)| name.to_owned()).collect();
    let has = |name: &str| exports.iter().any(|export| export == name);
    let world = match (has("describe") && has("init"), has("step"), has("gate") && has("watch")) {
        (true, true, false) => World::Policy,
        (true, false, true) => World::Detector,
        _ => {
            let found = exports.join(", ");
            let remedy =
                "a policy exports describe, init, step; a detector describe, init, gate, watch";
            return Err(format!("exports [{found}], neither a policy nor a detector: {remedy}"));
        }
    };
    let program = link(engine, component)
        .and_then(|linked| Program::new(linked, world))
        .map_err(|error| format!("does not fit wit/{INTERFACE}: {error:#}"))?;
    let name = match world {
        World::Policy => "policy",
        World::Detector => "detector",
    };
    Ok(((world, program), format!("a {name} of interface {INTERFACE}")))
}

fn link(engine: &Engine, component: &Component) -> wasmtime::Result<InstancePre<Guest>> {
    linker(engine)?.instantiate_pre(component)
}

/// How a name would be taken for another way to name a plugin.
fn misread(name: &str) -> Option<&'static str> {
    if Digest::may_begin_with(name) {
        Some("must not read as the digits of a digest, by which plugins are named, too")
    } else if name.contains('@') {
        Some("must not hold `@`, which comes between a name and a version")
    } else {
        None
    }
}

fn describe(
    program: &Program,
    world: World,
    engine: &Engine,
    digest: Digest,
    limits: &Limits,
) -> Passed<Description> {
    let said = program
        .describe(engine, digest, limits)
        .map_err(|outcome| format!("describe {}", say(&outcome, limits)))?;
    if said.name.is_empty() || said.version.is_empty() {
        return Err("describe gives no name or no version: give both".to_owned());
    }
    for (what, text) in [("name", &said.name), ("version", &said.version)] {
        if let Some(must) = bad_name(text) {
            return Err(format!("describe gives the {what} {}: it {must}", shown(text)));
        }
    }
    if let Some(must) = misread(&said.name) {
        return Err(format!("describe gives the name {}: it {must}", shown(&said.name)));
    }
    // Postgres keeps no zero character, and a schema is kept as it is.
    for (what, text) in [("documentation", &said.documentation), ("schema", &said.config_schema)] {
        let parsed = serde_json::from_str(text).unwrap_or(serde_json::Value::Null);
        if text.contains('\0') || zero_character(&parsed).is_some() {
            return Err(format!("describe gives a {what} with a zero character: leave it out"));
        }
    }
    if said.every_steps == 0 {
        let remedy = "1 is every step";
        return Err(format!("describe gives every-steps 0, but it must be at least 1: {remedy}"));
    }
    if world == World::Detector && !said.gates && !said.watches {
        let remedy = "say yes to one, or it is never called";
        return Err(format!("describe says that neither gate nor watch is called: {remedy}"));
    }
    check_columns(&said.columns).map_err(|error| {
        let remedy = "the catalogue is in core/domain/src/catalogue.rs";
        format!("describe asks for what cannot be had: {error}; {remedy}")
    })?;
    let message = format!("{}@{}", said.name, said.version);
    Ok((said, message))
}
