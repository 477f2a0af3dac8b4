//! A plugin's configuration against the plugin's own JSON Schema.

use serde_json::Value;

/// Why `config` does not suit `schema`, in a sentence that names the place.
pub fn validate_config(schema: &str, config: &Value) -> std::result::Result<(), String> {
    let schema: Value = serde_json::from_str(schema)
        .map_err(|error| format!("the plugin's config schema is not JSON: {error}"))?;
    let validator = jsonschema::validator_for(&schema)
        .map_err(|error| format!("the plugin's config schema is not a JSON Schema: {error}"))?;
    validator.validate(config).map_err(|error| {
        let place = error.instance_path().to_string();
        if place.is_empty() { error.to_string() } else { format!("at {place}: {error}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_names_the_place() {
        let schema = r#"{"type":"object","properties":{"smoothing":{"type":"number","maximum":1}},
            "additionalProperties":false}"#;
        assert_eq!(validate_config(schema, &serde_json::json!({"smoothing": 0.5})), Ok(()));
        let refused = validate_config(schema, &serde_json::json!({"smoothing": 2})).unwrap_err();
        assert!(refused.starts_with("at /smoothing"), "{refused}");
        assert!(validate_config(schema, &serde_json::json!({"smothing": 1})).is_err());
        assert!(validate_config("no json", &serde_json::json!({})).is_err());
    }
}
