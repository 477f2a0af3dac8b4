//! What a request's path and query say, read once and in full: what a route does not know is refused,
//! and no number passes that a position in a log cannot have.

use std::ops::RangeInclusive;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;

use crate::error::Failure;

/// Positions and steps: what a column of the log can count.
pub(crate) const POSITIONS: RangeInclusive<u64> = 0..=i64::MAX as u64;

/// The run that a path names.
pub(crate) struct Run(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Run {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Run, Failure> {
        let Path(run) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| Failure::not_found("no run has an id that is not UTF-8"))?;
        Ok(Run(run))
    }
}

/// A query of whole numbers.
pub(crate) struct Numbers(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Numbers {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Numbers, Failure> {
        let Query(pairs) =
            Query::try_from_uri(&parts.uri).map_err(|bad| refused(bad.body_text()))?;
        Ok(Numbers(pairs))
    }
}

impl Numbers {
    /// The numbers under these keys, each within its range.
    pub(crate) fn read<const COUNT: usize>(
        self,
        known: [(&str, RangeInclusive<u64>); COUNT],
    ) -> Result<[Option<u64>; COUNT], Failure> {
        let mut found = [None; COUNT];
        for (key, value) in self.0 {
            let Some(place) = known.iter().position(|(name, _)| *name == key) else {
                let names = known.map(|(name, _)| name).join(", ");
                let there = if COUNT == 0 { "none".to_owned() } else { names };
                return Err(refused(format!("`{key}` is no key of this query; there are {there}")));
            };
            let range = &known[place].1;
            let number = value.parse().ok().filter(|number| range.contains(number));
            let Some(number) = number else {
                let (least, most) = (range.start(), range.end());
                return Err(refused(format!(
                    "{key} is {value:?}: it must be a whole number from {least} to {most}"
                )));
            };
            if found[place].replace(number).is_some() {
                return Err(refused(format!("{key} is given twice")));
            }
        }
        Ok(found)
    }
}

/// For routes that take no query.
pub(crate) struct NoQuery;

impl<S: Send + Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<NoQuery, Failure> {
        Numbers::from_request_parts(parts, state).await?.read([])?;
        Ok(NoQuery)
    }
}

fn refused(sentence: String) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, sentence)
}
