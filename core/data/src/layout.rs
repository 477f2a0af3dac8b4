//! What is wanted of every object of a file, and the document that it makes.

use hm_domain::settings::{bad_name, shown};

use crate::json_object::{Object, text};
use crate::reading::{Document, Unusable};

/// Names of fields that are told where the wanted one is missing.
const NAMES_TOLD_MAX: usize = 6;

/// Fields that usually hold the text of a document.
const USUAL_TEXTS: [&str; 6] = ["text", "content", "body", "raw_content", "article", "document"];
/// Names from this likeness on may be misspellings of each other.
const ALIKE: f64 = 0.75;

/// Where a document's domain comes from, resolved for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// The same for every document of the file.
    Named(String),
    /// A field of each object.
    Field(String),
}

/// What is wanted of every object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Field that holds the text.
    pub(crate) text: String,
    /// Field that holds a title, to stand before the text.
    pub(crate) title: Option<&'static str>,
    /// Its domain.
    pub(crate) naming: Naming,
}

impl Layout {
    /// The document that an object of JSON is.
    pub(crate) fn document(&self, object: &[u8]) -> Result<Document, Unusable> {
        let object = Object::parse(object)?;
        let domain = self.domain(&object)?;
        let (mut body, mut replaced) = string(&object, &self.text, || self.text_instead(&object))?;
        if let Some(title) = self.title.and_then(|title| object.field(title))
            && let Some((title, more)) = text(title)?
            && !title.is_empty()
        {
            body = format!("{title}\n{body}");
            replaced += more;
        }
        Ok(Document { domain, text: body, replaced })
    }

    /// What to say of the field that may hold the text: one of the usual ones, here or one level down, or
    /// else the longest. A conversation is in none.
    fn text_instead(&self, object: &Object<'_>) -> String {
        let (texts, inner) = (object.texts(), object.inner_texts());
        let is_usual = |name: &str, usual: &str| name.rsplit('.').next() == Some(usual);
        let of = |texts: &[(String, usize)]| {
            let find = |usual: &&str| texts.iter().find(|(name, _)| is_usual(name, usual)).cloned();
            USUAL_TEXTS.iter().find_map(find)
        };
        if let Some((name, _)) = of(&texts).or_else(|| of(&inner)) {
            return format!("; is it `text_field: {name}`?");
        }
        if let Some(name) = object.list_of_objects() {
            return format!(
                "; {name} is a list of objects: lists of messages are not read, so make each one text"
            );
        }
        let longest = texts.into_iter().chain(inner).max_by_key(|(_, length)| *length);
        longest.map_or_else(String::new, |(name, _)| format!("; is it `text_field: {name}`?"))
    }

    fn domain(&self, object: &Object<'_>) -> Result<String, Unusable> {
        let field = match &self.naming {
            Naming::Named(name) => return Ok(name.clone()),
            Naming::Field(field) => field,
        };
        let (name, _) = string(object, field, || domain_instead(object, field))?;
        let name = name.trim();
        match bad_name(name) {
            None => Ok(name.to_owned()),
            Some(must) => Err(Unusable::Name(format!(
                "has the domain {} in {field}, which {must}: mend the field, or name the domain with `domain`",
                shown(name)
            ))),
        }
    }
}

/// The text of a field that must be there; `instead` says what to do where it is not.
fn string(
    object: &Object<'_>,
    field: &str,
    instead: impl FnOnce() -> String,
) -> Result<(String, u64), Unusable> {
    let Some(value) = object.field(field) else {
        let names = object.names(NAMES_TOLD_MAX).join(", ");
        let there = if names.is_empty() { "no field at all".to_owned() } else { names };
        return Err(Unusable::Bad(format!("has no {field}: it has {there}{}", instead())));
    };
    text(value)?.ok_or_else(|| Unusable::Bad(format!("has a {field} that is no text{}", instead())))
}

/// A field that may be meant where the wanted one is not there: of that name, nearly.
fn domain_instead(object: &Object<'_>, field: &str) -> String {
    let names = object.texts().into_iter().map(|(name, _)| name);
    let alike = |name: &String| strsim::jaro_winkler(name, field);
    match names.max_by(|a, b| alike(a).total_cmp(&alike(b))).filter(|name| alike(name) > ALIKE) {
        Some(name) => format!("; did you mean `domain_field: {name}`?"),
        None => "; name the field with `domain_field`, or the domain with `domain`".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(object: &str) -> String {
        let naming = Naming::Named("a".to_owned());
        let layout = Layout { text: "text".to_owned(), title: None, naming };
        match layout.document(object.as_bytes()) {
            Err(Unusable::Bad(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_text_one_level_down_is_named_and_a_list_of_messages_is_told() {
        let inner = said(r#"{"id":"0123456789","data":{"lang":"en","text":"x"}}"#);
        assert!(inner.ends_with("; is it `text_field: data.text`?"), "{inner}");
        let own = said(r#"{"body":"x","data":{"text":"x"}}"#);
        assert!(own.ends_with("; is it `text_field: body`?"), "{own}");
        let list = said(r#"{"id":"0123456789","messages":[ {"role":"user","content":"x"}]}"#);
        assert!(
            list.contains("messages is a list of objects: lists of messages are not"),
            "{list}"
        );
        let longest = said(r#"{"id":"x","page":{"words":"longer words"},"tags":["a"]}"#);
        assert!(longest.ends_with("; is it `text_field: page.words`?"), "{longest}");
    }
}
