//! What a person is told of a file that does not fit.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Typed {
    steps: u64,
    #[serde(default)]
    rate: f64,
    #[serde(default)]
    name: String,
    #[serde(default)]
    deep: Vec<Deep>,
    inner: Inner,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Deep {
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    count: u32,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Inner {
    must: Kind,
    size: u32,
}

#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    #[default]
    Cosine,
    Linear,
}

fn beside(more: Value) -> Value {
    let mut value = json!({"steps": 3, "inner": {"must": "linear", "size": 2}});
    for (key, part) in more.as_object().unwrap() {
        value[key] = part.clone();
    }
    value
}

/// What is told, where a rate above 2 and a size above 5 are out of bounds.
fn told_of(value: Value) -> Vec<String> {
    let check = |typed: &Typed| {
        let mut faults = Faults::default();
        faults.require(typed.rate <= 2.0, "rate", typed.rate, "must be at most 2");
        let must = format!("must be at most {} of steps", typed.steps);
        faults.require(u64::from(typed.inner.size) <= typed.steps, "inner.size", "it", must);
        faults
    };
    let refused = read::<Typed>(value).checked(check).unwrap_err();
    refused.all().iter().map(ToString::to_string).collect()
}

#[test]
fn all_that_does_not_fit_is_told_under_its_key() {
    let told = told_of(beside(json!({
        "steps": "1e3", "raet": 1, "name": false, "rate": [1], "": 4,
        "deep": [{"kind": "cosin", "cuont": 3, "count": -1}, {"count": 1e3}, 7],
    })));
    for due in [
        "steps is \"1e3\": must be a whole number without a sign",
        "raet is 1: there is no key `raet` here; did you mean `rate`?",
        "\"\" is 4: there is no key `` here: there are steps, rate, name, deep, inner",
        "name is false: must be a text",
        "rate is a list of 1: must be a number",
        "deep.0.kind is \"cosin\": must be one of cosine, linear; did you mean `cosine`?",
        "deep.0.cuont is 3: there is no key `cuont` here; did you mean `count`?",
        "deep.0.count is -1: must be a whole number from 0",
        "deep.1.count is 1000.0: must be a whole number from 0 to 4294967295, written out in \
         digits: 1000",
        "deep.2 is 7: must be a table of keys",
    ] {
        assert!(told.iter().any(|told| told.starts_with(due)), "{due}: {told:#?}");
    }
    assert_eq!(told.len(), 10, "{told:#?}");
}

#[test]
fn all_that_is_missing_is_named_at_once() {
    let due = ["inner is missing: must be given", "steps is missing: must be given"];
    let mut told = told_of(json!({}));
    told.sort();
    assert_eq!(told, due);
    let mut told = told_of(json!({"inner": {}, "steps": 1}));
    told.sort();
    let due = ["inner.must is missing: must be given", "inner.size is missing: must be given"];
    assert_eq!(told, due);
    let told = told_of(json!("hello"));
    assert_eq!(told[0], "the file is \"hello\": must be a table of keys");
    assert_eq!(told.len(), 3, "{told:?}");
}

#[test]
fn values_out_of_bounds_are_told_beside_what_does_not_fit() {
    let told = told_of(beside(json!({"rate": 7, "naem": "x"})));
    let due = "naem is \"x\": there is no key `naem` here; did you mean `name`?";
    assert_eq!(told, [due, "rate is 7: must be at most 2"]);
    // Nothing is said of what only follows from what stands in.
    let mut value = beside(json!({"stepps": 3}));
    value.as_object_mut().unwrap().remove("steps");
    let due = "stepps is 3: there is no key `stepps` here; did you mean `steps`?";
    assert_eq!(told_of(value), [due]);
    let told = told_of(beside(json!({"steps": null, "rate": 7})));
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("steps is empty: must be a whole number"), "{told:?}");
    assert_eq!(told[1], "rate is 7: must be at most 2");
}

#[test]
fn list_that_lacks_its_dash_is_told_how_to_get_one() {
    let told = told_of(beside(json!({"deep": {"kind": "cosine"}})));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("deep is a table: must be a list, each item"), "{told:?}");
}

#[test]
fn list_is_not_read_as_a_table_by_the_places_of_its_items() {
    let told = told_of(beside(json!({"inner": ["linear", 2], "rate": 7, "deep": [["cosine"]]})));
    let due = [
        "deep.0 is a list of 1: must be a table of keys",
        "inner is a list of 2: must be a table of keys",
        "rate is 7: must be at most 2",
    ];
    assert_eq!(told, due);
}

#[test]
fn what_fits_is_read() {
    let value = beside(json!({"deep": [{}]}));
    let read = read::<Typed>(value).checked(|_| Faults::default()).unwrap();
    assert_eq!((read.steps, read.rate, read.name.as_str(), read.deep.len()), (3, 0.0, "", 1));
    assert_eq!((&read.deep[0].kind, read.deep[0].count), (&Kind::Cosine, 0));
    assert_eq!((&read.inner.must, read.inner.size), (&Kind::Linear, 2));
}
