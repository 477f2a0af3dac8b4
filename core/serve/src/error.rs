//! What can go wrong: at start-up as an error, in a request as a JSON sentence with a status.
//! Causes inside the server are logged and never sent.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::backend::BackendError;

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The connection on which to listen.
    #[error("the web server failed: {0}")]
    Io(#[from] std::io::Error),
    /// No random bytes.
    #[error("the system gives no random bytes for a token: {0}")]
    Randomness(String),
    /// A token somebody could guess.
    #[error("a token of {0} characters is too short: use at least 16")]
    ShortToken(usize),
    /// A token that is changed on its way through an address or a header.
    #[error("a token is made of letters, digits and -._~ of ASCII; {0:?} is none of these")]
    UnusableToken(char),
}

/// Longest sentence that is sent: requests are not sent back whole.
const SENTENCE_CHARACTERS_MAX: usize = 1_000;

fn shortened(sentence: String) -> String {
    match sentence.char_indices().nth(SENTENCE_CHARACTERS_MAX) {
        Some((place, _)) => {
            let left = sentence[place..].chars().count();
            format!("{} and {left} characters more", &sentence[..place])
        }
        None => sentence,
    }
}

/// A refused or failed request.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    sentence: String,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, sentence: impl Into<String>) -> Self {
        Self { status, sentence: shortened(sentence.into()) }
    }

    /// Something went wrong that is not the caller's matter.
    pub(crate) fn inside() -> Self {
        let sentence = "the server failed to answer; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, sentence)
    }

    pub(crate) fn not_found(sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, sentence)
    }
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::NotFound(sentence) => Self::not_found(sentence),
            BackendError::Refused(sentence) => Self::new(StatusCode::CONFLICT, sentence),
            BackendError::Busy(cause) => {
                tracing::warn!(%cause, "a request was not answered");
                let sentence =
                    "the database has no connection free for this; ask again in a moment";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, sentence)
            }
            BackendError::Internal(cause) => {
                tracing::error!(%cause, "a request failed inside");
                Self::inside()
            }
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(serde_json::json!({ "error": self.sentence }))).into_response()
    }
}
