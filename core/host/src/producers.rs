//! Which programs made a component, as it says itself: the `producers` sections that compilers and
//! packers leave in it. Told to people, never acted upon: anyone can write anything there.

use wasmparser::{KnownCustom, Parser, Payload, ProducersSectionReader};

/// Programs that are told.
const PROGRAMS_MAX: usize = 8;
/// Characters of all of them that are told.
const TOLD_MAX: usize = 300;

/// The programs with their versions, the compiler of the code first; `an unknown compiler` where the
/// component names none.
pub(crate) fn told(wasm: &[u8]) -> String {
    let mut programs: Vec<String> = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let Ok(payload) = payload else { break };
        let Payload::CustomSection(section) = payload else { continue };
        let KnownCustom::Producers(fields) = section.as_known() else { continue };
        // What is malformed tells nothing; that is no fault of the code.
        for program in processed_by(fields).unwrap_or_default() {
            if programs.len() < PROGRAMS_MAX && !programs.contains(&program) {
                programs.push(program);
            }
        }
    }
    // What packs a module says so before what compiled it.
    programs.sort_by_key(|program| program.starts_with("wit-"));
    if programs.is_empty() {
        return "an unknown compiler".to_owned();
    }
    // Escaped: a plugin's text must not control anybody's terminal.
    let text: String = programs.join(", ").chars().take(TOLD_MAX).collect();
    text.escape_debug().to_string()
}

fn processed_by(fields: ProducersSectionReader<'_>) -> wasmparser::Result<Vec<String>> {
    let mut programs = Vec::new();
    for field in fields {
        let field = field?;
        if field.name != "processed-by" {
            continue;
        }
        for program in field.values.into_iter().take(PROGRAMS_MAX) {
            let program = program?;
            programs.push(format!("{} {}", program.name, program.version).trim_end().to_owned());
        }
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component of one module, either with these programs in its producers section.
    fn made_by(component: &[(&str, &str)], module: &[(&str, &str)]) -> Vec<u8> {
        let section = |programs: &[(&str, &str)]| match programs {
            [] => String::new(),
            _ => {
                let listed: String = programs
                    .iter()
                    .map(|(name, version)| format!(r#"(processed-by "{name}" "{version}")"#))
                    .collect();
                format!(r#"(@producers (language "Rust" "") {listed})"#)
            }
        };
        let (module, component) = (section(module), section(component));
        wat::parse_str(format!("(component (core module {module}) {component})")).unwrap()
    }

    #[test]
    fn compiler_is_told_before_what_packed_its_module() {
        let packers = [("wit-component", "0.263.0"), ("wit-bindgen-rust", "0.61.0")];
        let bytes = made_by(&packers, &[("rustc", "1.96.0 (ac68faa20 2026-05-25)")]);
        let due =
            "rustc 1.96.0 (ac68faa20 2026-05-25), wit-component 0.263.0, wit-bindgen-rust 0.61.0";
        assert_eq!(told(&bytes), due);
        // Told once, however many modules say it.
        assert_eq!(told(&made_by(&[("clang", "19")], &[("clang", "19")])), "clang 19");
    }

    #[test]
    fn what_says_nothing_or_nonsense_has_an_unknown_compiler() {
        assert_eq!(told(&made_by(&[], &[])), "an unknown compiler");
        assert_eq!(told(b"no component"), "an unknown compiler");
        let mut bytes = made_by(&[("rustc", "1.96.0")], &[]);
        let at = bytes.windows(12).position(|part| part == b"processed-by").unwrap();
        bytes[at] = b'x';
        assert_eq!(told(&bytes), "an unknown compiler");
    }

    #[test]
    fn what_is_told_is_bounded_and_cannot_control_a_terminal() {
        let many: Vec<(String, &str)> = (0..1000).map(|n| (format!("p{n}"), "1")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(name, v)| (name.as_str(), *v)).collect();
        assert_eq!(told(&made_by(&many, &[])).split(", ").count(), PROGRAMS_MAX);
        let long = told(&made_by(&[("rustc", &"9".repeat(100_000))], &[]));
        assert_eq!(long.chars().count(), TOLD_MAX);
        assert_eq!(told(&made_by(&[("\\1b[2J", "1")], &[])), "\\u{1b}[2J 1");
    }
}
