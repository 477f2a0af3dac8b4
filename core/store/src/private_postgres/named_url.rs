//! `DATABASE_URL`: a server that somebody else runs, and how it is told without its password.

use crate::error::{Result, StoreError};

const NAME: &str = "DATABASE_URL";

/// What it names, if it is set.
pub(super) fn named() -> Result<Option<String>> {
    match std::env::var(NAME) {
        Ok(url) if !url.is_empty() => checked(url).map(Some),
        Ok(_) | Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(bytes)) => {
            Err(bad(&bytes.to_string_lossy(), "it is not UTF-8"))
        }
    }
}

/// Another database would be asked in a language that it does not speak.
fn checked(url: String) -> Result<String> {
    match url.split_once("://") {
        Some(("postgres" | "postgresql", _)) => Ok(url),
        Some((scheme, _)) => {
            Err(bad(&url, &format!("{scheme} is not PostgreSQL, and the log is kept in no other")))
        }
        None => Err(bad(&url, "it does not begin with postgres://")),
    }
}

/// Says whose address an error is about, where that is `url` and the error is no refusal of ours.
pub(crate) fn told(url: &str, error: StoreError) -> StoreError {
    let is_named = std::env::var(NAME).is_ok_and(|named| named == url);
    match error {
        StoreError::Database(_) | StoreError::Silent(_) if is_named => bad(url, &error.to_string()),
        other => other,
    }
}

fn bad(url: &str, why: &str) -> StoreError {
    StoreError::BadUrl { url: without_password(url), why: why.to_owned() }
}

/// On one line, and with dots for what nobody else should read.
fn without_password(url: &str) -> String {
    let plain: String = url.chars().flat_map(char::escape_debug).collect();
    let (address, query) = match plain.split_once('?') {
        Some((address, query)) => (address.to_owned(), Some(query)),
        None => (plain.clone(), None),
    };
    let address = match address.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((user, host)) => match user.split_once(':') {
                Some((user, _)) => format!("{scheme}://{user}:...@{host}"),
                None => address,
            },
            None => address,
        },
        None => address,
    };
    let Some(query) = query else { return address };
    let hidden = |pair: &str| match pair.split_once('=') {
        Some((key, _)) if key.to_ascii_lowercase().contains("password") => format!("{key}=..."),
        _ => pair.to_owned(),
    };
    let pairs: Vec<String> = query.split('&').map(hidden).collect();
    format!("{address}?{}", pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_of_no_postgres_is_refused_with_the_remedy() {
        let refused = |url: &str| checked(url.to_owned()).unwrap_err().to_string();
        let text = refused("foo");
        assert!(
            text.starts_with("DATABASE_URL is foo: it does not begin with postgres://"),
            "{text}"
        );
        assert!(text.contains("or unset it"), "{text}");
        assert!(refused("mysql://h/d").contains("mysql is not PostgreSQL"));
        for good in ["postgres://h/d", "postgresql://u:p@h/d"] {
            assert_eq!(checked(good.to_owned()).unwrap(), good);
        }
    }

    #[test]
    fn password_is_never_told() {
        for (url, due) in [
            ("postgres://u:s3cret@h/d", "postgres://u:...@h/d"),
            ("postgres://u:s3@cr:et@h:5432/d?a=b", "postgres://u:...@h:5432/d?a=b"),
            ("postgres://u@h/d?password=s3cret&a=b", "postgres://u@h/d?password=...&a=b"),
            ("postgres://h/d", "postgres://h/d"),
            ("foo", "foo"),
        ] {
            assert_eq!(without_password(url), due);
        }
    }
}
