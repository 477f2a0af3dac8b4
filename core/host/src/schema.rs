//! Configurations against the JSON Schema that a plugin declares.

use serde_json::{Map, Value};

/// Checks a configuration against a plugin's schema.
///
/// # Errors
/// A sentence naming every place that does not fit, or what is wrong with the schema itself.
pub fn validate_config(schema: &str, config: &Value) -> Result<(), String> {
    let schema = parse(schema)?;
    let validator = jsonschema::validator_for(&schema)
        .map_err(|error| format!("the plugin's schema is not usable: {error}"))?;
    let wrong: Vec<String> = validator
        .iter_errors(config)
        .map(|error| match error.instance_path().to_string().as_str() {
            "" => error.to_string(),
            place => format!("{place}: {error}"),
        })
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

/// The schema as JSON.
pub(crate) fn parse(schema: &str) -> Result<Value, String> {
    serde_json::from_str(schema)
        .map_err(|error| format!("the plugin's schema is not JSON: {error}"))
}

/// A configuration to try a plugin with: the schema's first example, or else every property's
/// default. May not be valid: the caller asks [`validate_config`].
pub(crate) fn example(schema: &Value) -> Value {
    if let Some(first) = schema["examples"].get(0) {
        return first.clone();
    }
    let defaults = schema["properties"].as_object().into_iter().flatten();
    let filled: Map<String, Value> = defaults
        .filter_map(|(name, property)| Some((name.clone(), property.get("default")?.clone())))
        .collect();
    Value::Object(filled)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SCHEMA: &str = r#"{"type":"object","additionalProperties":false,
        "properties":{"smoothing":{"type":"number","minimum":0,"maximum":1,"default":0.5}}}"#;

    #[test]
    fn a_config_outside_the_schema_is_refused_by_place() {
        assert_eq!(validate_config(SCHEMA, &json!({"smoothing": 0.5})), Ok(()));
        let message = validate_config(SCHEMA, &json!({"smoothing": 2})).unwrap_err();
        assert!(message.contains("/smoothing") && message.contains('2'), "{message}");
        let message = validate_config(SCHEMA, &json!({"smothing": 0.5})).unwrap_err();
        assert!(message.contains("smothing"), "{message}");
    }

    #[test]
    fn a_schema_that_is_none_is_refused() {
        assert!(validate_config("{", &json!({})).is_err());
        assert!(validate_config(r#"{"type": 7}"#, &json!({})).is_err());
    }

    #[test]
    fn defaults_make_an_example() {
        assert_eq!(example(&parse(SCHEMA).unwrap()), json!({"smoothing": 0.5}));
    }
}
