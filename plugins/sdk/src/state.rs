//! What both worlds do alike: configuration in, state in, state out.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::policy::heurimentor::plugin::types::Error;

/// The configuration, of which the host has checked the schema.
pub(crate) fn config<C: DeserializeOwned>(text: &str) -> Result<C, Error> {
    serde_json::from_str(text).map_err(|error| Error::Refused(format!("config: {error}")))
}

/// Equal states give equal bytes.
pub(crate) fn save<S: Serialize>(state: &S) -> Result<Vec<u8>, Error> {
    postcard::to_allocvec(state)
        .map_err(|error| Error::Failed(format!("the state cannot be kept: {error}")))
}

/// Bytes of another plugin or version are an error, never a panic.
pub(crate) fn load<S: DeserializeOwned>(bytes: &[u8]) -> Result<S, Error> {
    let refuse = |why: String| {
        let count = bytes.len();
        Error::Failed(format!("the state of {count} bytes is not one of this plugin: {why}"))
    };
    match postcard::take_from_bytes(bytes) {
        Ok((state, [])) => Ok(state),
        Ok((_, rest)) => Err(refuse(format!("{} bytes are left over", rest.len()))),
        Err(error) => Err(refuse(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_loads_and_anything_else_is_an_error() {
        let state = (vec![Some(1.5), None], 7u64);
        let bytes = save(&state).unwrap();
        assert_eq!(load::<(Vec<Option<f64>>, u64)>(&bytes).unwrap(), state);
        let refused = |bytes: &[u8]| match load::<(Vec<Option<f64>>, u64)>(bytes) {
            Err(Error::Failed(message)) => message,
            other => panic!("{other:?}"),
        };
        assert!(refused(&bytes[1..]).contains("is not one of this plugin"));
        assert!(refused(&[]).contains("0 bytes"));
        let longer = [bytes, vec![0]].concat();
        assert!(refused(&longer).ends_with("1 bytes are left over"));
    }

    #[test]
    fn a_config_that_does_not_fit_is_refused_with_the_place() {
        let refused = match config::<crate::NoConfig>(r#"{"a": 1}"#) {
            Err(Error::Refused(message)) => message,
            other => panic!("{other:?}"),
        };
        assert!(refused.contains("unknown field `a`"), "{refused}");
    }
}
