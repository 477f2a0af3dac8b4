use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn found(line: &str, path: &str) -> Option<String> {
    let object = Object::parse(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
    text(object.field(path)?).unwrap().map(|(text, _)| text)
}

#[test]
fn fields_that_are_not_read_cost_nothing() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let odd = ["NaN", "-Infinity", "1e999", "-1E-9999", r#""\ud83d half""#, &deep];
    for odd in odd.into_iter().chain(["01", "1.", "1.e5", "\"a\tb\0c\""]) {
        let line = format!(r#"{{"odd": {odd}, "text": "kept", "more": [{odd}]}}"#);
        assert_eq!(found(&line, "text").unwrap(), "kept");
    }
    let bytes = b"{\"text\": \"kept\", \"odd\": \"caf\xe9\"}";
    let object = Object::parse(bytes).unwrap();
    assert_eq!(text(object.field("text").unwrap()).unwrap().unwrap().0, "kept");
    assert!(text(object.field("odd").unwrap()).unwrap_err().starts_with("is not UTF-8"));
}

#[test]
fn the_last_of_a_name_counts_and_dots_reach_inside() {
    assert_eq!(found(r#"{"a":"1","a":"2"}"#, "a").unwrap(), "2");
    assert_eq!(found(r#"{"a":{"b":{"c":"3"}}}"#, "a.b.c").unwrap(), "3");
    assert_eq!(found(r#"{"a.b":"4","a":{"b":"5"}}"#, "a.b").unwrap(), "4");
    assert_eq!(found(r#"{"a":{"b":"6"},"a":7}"#, "a.b"), None);
    assert_eq!(found(r#"{"te\u0078t":"8"}"#, "text").unwrap(), "8");
    assert_eq!(found(r#"{"a":null}"#, "a"), None);
}

#[test]
fn half_a_surrogate_pair_is_replaced_and_counted() {
    for (escaped, plain, count) in [
        (r"lone \ud83d half", "lone \u{fffd} half", 1),
        (r"\ude00\ud83d", "\u{fffd}\u{fffd}", 2),
        (r"\ud83d\ude00", "\u{1f600}", 0),
        (r"\ud83d\u0041", "\u{fffd}A", 1),
        (r"\n\u0000\/\\u", "\n\0/\\u", 0),
    ] {
        let value = format!("\"{escaped}\"");
        assert_eq!(text(value.as_bytes()).unwrap().unwrap(), (plain.to_owned(), count));
    }
}

#[test]
fn what_is_no_object_is_refused_with_its_place() {
    for (line, reason) in [
        (r#"{"a":1},"#, "is not JSON: byte 8 should be the end"),
        (r#"{"a":1}{"a":1}"#, "byte 8 should be the end"),
        (r#"{"a":"half"#, "it ends where `\"` should be"),
        (r#"{"a" 1}"#, "byte 6 should be `:`"),
        (r#"{"a":1,}"#, "byte 8 should be `\"`"),
        (r#"{"a":[1,]}"#, "should be a value"),
        (r#"{"a":nul}"#, "byte 6 should be a value"),
        (r#"{"a":"\x"}"#, "should be an escape"),
        (r#"{"a":"\u12"}"#, "should be an escape"),
        (r#"{"a":{"b":1]}"#, "byte 12 should be `}`"),
        ("[1, 2]", "is no JSON object"),
        ("", "it ends where a value should be"),
    ] {
        let error = Object::parse(line.as_bytes()).err().unwrap();
        assert!(error.contains(reason), "{line}: {error}");
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_serde_json_writes_is_read_as_it_was(
        wanted in ".*", before in value(), after in value(), pretty: bool
    ) {
        let whole = serde_json::json!({"before": before, "text": wanted, "zafter": after});
        let line = if pretty { format!("{whole:#}") } else { whole.to_string() };
        prop_assert_eq!(found(&line, "text").unwrap(), wanted);
    }

    #[test]
    fn what_serde_json_refuses_of_cut_objects_is_refused(inner in value(), cut in 0usize..400) {
        let whole = serde_json::json!({"text": "x", "inner": inner}).to_string();
        let cut = whole.floor_char_boundary(cut.min(whole.len()));
        let strict = serde_json::from_str::<Value>(&whole[..cut]).is_ok();
        prop_assert_eq!(Object::parse(&whole.as_bytes()[..cut]).is_ok(), strict);
    }
}
