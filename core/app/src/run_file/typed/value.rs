//! A value of JSON out of any text: what JSON has no word for is noted by key, never swallowed.

use std::fmt;

use hm_domain::settings::Faults;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A value, and the numbers in it that are none, by the steps that lead to them.
#[derive(Debug, Default)]
pub(super) struct Plain {
    value: Value,
    not_finite: Vec<(Vec<String>, f64)>,
}

impl Plain {
    /// The value, if all its numbers are finite.
    pub(super) fn finite(self) -> Result<Value, Faults> {
        let mut faults = Faults::default();
        for (mut steps, number) in self.not_finite {
            steps.reverse();
            let key = if steps.is_empty() { "the value".to_owned() } else { steps.join(".") };
            faults.add(key, number, "must be a finite number, or left out");
        }
        faults.into_result().map(|()| self.value)
    }

    fn of(value: impl Into<Value>) -> Plain {
        Plain { value: value.into(), not_finite: Vec::new() }
    }

    /// Takes over what the part under `step` noted; innermost steps stand first.
    fn note(&mut self, step: &str, part: Plain) -> Value {
        for (mut steps, number) in part.not_finite {
            steps.push(step.to_owned());
            self.not_finite.push((steps, number));
        }
        part.value
    }
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Plain, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Plain;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Plain, E> {
        Ok(Plain::of(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Plain, E> {
        Ok(Plain::of(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Plain, E> {
        Ok(Plain::of(value))
    }

    /// Beyond 64 bits a number is no whole number of ours.
    fn visit_i128<E: Error>(self, value: i128) -> Result<Plain, E> {
        self.visit_f64(value as f64)
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Plain, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Plain, E> {
        Ok(match Number::from_f64(value) {
            Some(number) => Plain::of(Value::Number(number)),
            None => Plain { value: Value::Null, not_finite: vec![(Vec::new(), value)] },
        })
    }

    fn visit_str<E>(self, value: &str) -> Result<Plain, E> {
        Ok(Plain::of(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Plain, E> {
        Ok(Plain::of(value))
    }

    fn visit_unit<E>(self) -> Result<Plain, E> {
        Ok(Plain::default())
    }

    fn visit_none<E>(self) -> Result<Plain, E> {
        Ok(Plain::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Plain, D::Error> {
        Deserialize::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Plain, D::Error> {
        Deserialize::deserialize(inner)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Plain, A::Error> {
        let (mut whole, mut items) = (Plain::default(), Vec::new());
        while let Some(part) = parts.next_element::<Plain>()? {
            items.push(whole.note(&items.len().to_string(), part));
        }
        whole.value = Value::Array(items);
        Ok(whole)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut parts: A) -> Result<Plain, A::Error> {
        let (mut whole, mut fields) = (Plain::default(), Map::new());
        while let Some((key, part)) = parts.next_entry::<String, Plain>()? {
            let value = whole.note(&key, part);
            fields.insert(key, value);
        }
        whole.value = Value::Object(fields);
        Ok(whole)
    }
}
