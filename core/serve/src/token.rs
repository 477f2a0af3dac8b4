//! The start-up token: whoever started the server may write, nobody else who can reach the port.

use std::fmt::{self, Write as _};

use subtle::ConstantTimeEq as _;

use crate::door::Door;
use crate::error::ServeError;

/// Fewest characters of a token.
const CHARACTERS_MIN: usize = 16;

/// A secret made at start-up and printed once.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// 128 random bits as 32 hexadecimal digits. Fails if the system has no randomness to give.
    pub fn random() -> Result<Self, ServeError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| ServeError::Randomness(error.to_string()))?;
        Ok(Self(bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })))
    }

    /// A token that was agreed elsewhere: long enough that nobody guesses it, and of characters that mean
    /// themselves in an address as well as in a header. Others could be shown, but never work.
    pub fn agreed(text: &str) -> Result<Self, ServeError> {
        let means_itself = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        match text.chars().find(|&c| !means_itself(c)) {
            Some(other) => Err(ServeError::UnusableToken(other)),
            None if text.len() < CHARACTERS_MIN => Err(ServeError::ShortToken(text.len())),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// Whether `candidate` is this token, in a time that does not depend on where they differ.
    pub fn is(&self, candidate: &str) -> bool {
        self.0.as_bytes().ct_eq(candidate.as_bytes()).into()
    }

    /// The address to print: it carries the token in the fragment, which browsers do not send.
    pub fn address(&self, door: &Door) -> String {
        format!("{}/#token={}", door.address(), self.0)
    }

    /// The secret itself, for a client's `Authorization: Bearer` header.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_itself_only_and_never_printed() {
        let token = Token::random().unwrap();
        assert_eq!(token.reveal().len(), 32);
        assert!(token.is(token.reveal()));
        assert!(!token.is(""));
        assert!(!token.is(&token.reveal()[..31]));
        assert!(!token.is(Token::random().unwrap().reveal()));
        assert!(!format!("{token:?}").contains(token.reveal()));
    }

    #[test]
    fn a_short_token_is_refused() {
        let refused = Token::agreed("secret").unwrap_err().to_string();
        assert_eq!(refused, "a token of 6 characters is too short: use at least 16");
    }

    #[test]
    fn a_token_that_could_never_be_shown_is_refused() {
        assert!(
            Token::agreed("A-token_of.any~kind0")
                .is_ok_and(|token| token.is("A-token_of.any~kind0"))
        );
        for text in [
            "ääääääääää",
            " 0123456789abcdef",
            "0123456789abcdef ",
            "0123456789 abcdef",
            "percent%20#frag&x=1",
            "0123456789abcdef\n",
            "0123456789abcdef+/=",
        ] {
            let refused = Token::agreed(text).unwrap_err().to_string();
            assert!(refused.contains("letters, digits"), "{text:?}: {refused}");
        }
    }
}
