//! A plugin's own JSON Schema: what it accepts, and a configuration to try the plugin with.

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::{Map, Value};

use crate::checks::Passed;

/// Why `config` does not suit `schema`, in a sentence that names the place.
///
/// # Errors
/// When it does not suit, or the schema is none.
pub fn validate_config(schema: &str, config: &Value) -> Result<(), String> {
    suits(&compile(schema)?.1, config)
}

fn compile(schema: &str) -> Result<(Value, Validator), String> {
    let schema: Value = serde_json::from_str(schema)
        .map_err(|error| format!("the plugin's config schema is not JSON: {error}"))?;
    let validator = jsonschema::validator_for(&schema)
        .map_err(|error| format!("the plugin's config schema is not a JSON Schema: {error}"))?;
    Ok((schema, validator))
}

fn suits(validator: &Validator, config: &Value) -> Result<(), String> {
    validator.validate(config).map_err(|error| {
        let place = error.instance_path().to_string();
        let said = said(&error);
        if place.is_empty() { said } else { format!("at {place}: {said}") }
    })
}

/// A bound as a person types it; the rest in the library's own words.
fn said(error: &ValidationError<'_>) -> String {
    let value = error.instance();
    match error.kind() {
        ValidationErrorKind::Minimum { limit } => format!("{value} must be at least {limit}"),
        ValidationErrorKind::ExclusiveMinimum { limit } => format!("{value} must be above {limit}"),
        ValidationErrorKind::Maximum { limit } => format!("{value} must be at most {limit}"),
        ValidationErrorKind::ExclusiveMaximum { limit } => format!("{value} must be below {limit}"),
        _ => error.to_string(),
    }
}

/// Checks a schema against itself: it is one, every default it states suits it, and where nothing is
/// required the empty configuration, or what it states instead, is accepted. Gives a configuration
/// for the trial run, if the schema lets one be guessed.
pub(crate) fn check_schema(text: &str) -> Passed<Option<Value>> {
    let (schema, validator) = compile(text)?;
    defaults_suit(&schema, &validator)?;
    let candidates = candidates(&schema);
    if let Some(config) = candidates.iter().find(|config| suits(&validator, config).is_ok()) {
        let message = format!("a JSON Schema; it accepts {config}");
        return Ok((Some(config.clone()), message));
    }
    let required = schema.get("required").and_then(Value::as_array);
    if required.is_none_or(Vec::is_empty) {
        let why = suits(&validator, &Value::Object(Map::new())).err().unwrap_or_default();
        let remedy = "name what is needed in `required`, or state a `default`";
        return Err(format!("the schema requires nothing and yet refuses {{}}: {why}; {remedy}"));
    }
    Ok((None, "a JSON Schema; no configuration can be guessed from it".to_owned()))
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

fn defaults_suit(schema: &Value, validator: &Validator) -> Result<(), String> {
    let mend =
        |what: &str, why: String| Err(format!("the schema refuses {what}: {why}; mend either"));
    if let Some(config) = schema.get("default")
        && let Err(why) = suits(validator, config)
    {
        return mend("its own default", why);
    }
    for (name, default) in
        properties(schema).filter_map(|(name, property)| Some((name, property.get("default")?)))
    {
        // In its place, so that references within the schema hold; the other properties may be
        // required, which is not this default's fault.
        let config = Value::Object(Map::from_iter([(name.clone(), default.clone())]));
        let place = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        let fault = validator.iter_errors(&config).find(|error| {
            let at = error.instance_path().to_string();
            at == place || at.starts_with(&format!("{place}/"))
        });
        if let Some(error) = fault {
            return mend(&format!("its own default of `{name}`"), error.to_string());
        }
    }
    Ok(())
}

/// Configurations that the schema itself speaks of, the plainest first.
fn candidates(schema: &Value) -> Vec<Value> {
    let mut all = vec![Value::Object(Map::new())];
    all.extend(schema.get("default").cloned());
    all.extend(schema.get("examples").and_then(Value::as_array).into_iter().flatten().cloned());
    all.push(stated(schema));
    all
}

/// Every property with the value that the schema states for it.
fn stated(schema: &Value) -> Value {
    let pairs = properties(schema).filter_map(|(name, property)| {
        let listed = |key: &str| property.get(key).and_then(Value::as_array)?.first();
        let value = property
            .get("const")
            .or(property.get("default"))
            .or(listed("examples"))
            .or(listed("enum"))
            .cloned()
            .or_else(|| property.get("properties").map(|_| stated(property)))?;
        Some((name.clone(), value))
    });
    Value::Object(pairs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(schema: Value) -> Passed<Option<Value>> {
        check_schema(&schema.to_string())
    }

    #[test]
    fn refusal_names_the_place() {
        let schema = r#"{"type":"object","properties":{"smoothing":{"type":"number","maximum":1}},
            "additionalProperties":false}"#;
        assert_eq!(validate_config(schema, &serde_json::json!({"smoothing": 0.5})), Ok(()));
        let refused = validate_config(schema, &serde_json::json!({"smoothing": 2})).unwrap_err();
        assert_eq!(refused, "at /smoothing: 2 must be at most 1");
        let below = r#"{"properties":{"a":{"exclusiveMaximum":1,"exclusiveMinimum":0}}}"#;
        let refused = |a: f64| validate_config(below, &serde_json::json!({"a": a})).unwrap_err();
        assert_eq!(refused(7.0), "at /a: 7.0 must be below 1");
        assert_eq!(refused(0.0), "at /a: 0.0 must be above 0");
        assert!(validate_config(schema, &serde_json::json!({"smothing": 1})).is_err());
        assert!(validate_config("no json", &serde_json::json!({})).is_err());
    }

    #[test]
    fn a_configuration_is_guessed_from_what_the_schema_states() {
        let empty = serde_json::json!({});
        assert_eq!(guess(empty.clone()).unwrap().0, Some(empty));
        let needs =
            |property: Value| serde_json::json!({"required": ["a"], "properties": {"a": property}});
        let one = Some(serde_json::json!({"a": 1}));
        for property in [
            serde_json::json!({"default": 1}),
            serde_json::json!({"type": "number", "examples": [1, 2]}),
            serde_json::json!({"enum": [1, 2]}),
            serde_json::json!({"const": 1}),
        ] {
            assert_eq!(guess(needs(property)).unwrap().0, one);
        }
        let nested = serde_json::json!({"type": "object", "properties": {"b": {"default": 2}}});
        assert_eq!(guess(needs(nested)).unwrap().0, Some(serde_json::json!({"a": {"b": 2}})));
        assert_eq!(guess(needs(serde_json::json!({"type": "string"}))).unwrap().0, None);
    }

    #[test]
    fn a_schema_that_contradicts_itself_is_refused() {
        let bad = guess(serde_json::json!({"type": "sandwich"})).unwrap_err();
        assert!(bad.contains("not a JSON Schema"), "{bad}");
        let bad = guess(serde_json::json!({"properties": {"a/b": {"maximum": 1, "default": 2}},
            "required": ["c"]}));
        assert!(bad.unwrap_err().contains("its own default of `a/b`"));
        let bad = guess(serde_json::json!({"default": 1, "type": "object"})).unwrap_err();
        assert!(bad.contains("its own default:"), "{bad}");
        let bad = guess(serde_json::json!({"minProperties": 1})).unwrap_err();
        assert!(bad.contains("requires nothing and yet refuses {}"), "{bad}");
    }

    #[test]
    fn a_default_behind_a_reference_is_checked() {
        let schema = |default: u32| {
            serde_json::json!({"$defs": {"small": {"maximum": 1}},
                "properties": {"a": {"$ref": "#/$defs/small", "default": default}}})
        };
        assert!(guess(schema(1)).is_ok());
        assert!(guess(schema(2)).unwrap_err().contains("of `a`"));
        let remote = serde_json::json!({"$ref": "https://example.com/schema.json"});
        assert!(guess(remote).is_err(), "nothing is fetched");
    }
}
