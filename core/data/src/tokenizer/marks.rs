//! Marks of a tokenizer: which of them ends documents, and how a text that holds their words stays a text.

use serde_json::Value;
use tokenizers::Tokenizer as Inner;

/// What people end documents with, the first that a tokenizer has. Ours has the first two.
const USUAL: [&str; 9] = [
    super::END_OF_DOCUMENT,
    super::END_OF_TEXT,
    "<|end_of_text|>",
    "<｜end▁of▁sentence｜>",
    "<|end_of_document|>",
    "<|eos|>",
    "<eos>",
    "[EOS]",
    "[SEP]",
];
/// Candidates that a refusal names.
const TOLD_MAX: usize = 12;
/// Stands around a mark's words in the encoder: no character, and in no text.
const DISGUISE: char = '\u{10ffff}';

/// The mark that ends documents and its id: the named one, or the first of the usual ones.
///
/// # Errors
/// Names the tokens that could be meant.
pub(super) fn end_of_document(inner: &Inner, named: Option<&str>) -> Result<(String, u32), String> {
    let added = inner.get_added_tokens_decoder();
    let is_added = |mark: &&&str| added.values().any(|token| token.content == **mark);
    let found = match named {
        Some(named) => Some(named),
        // A piece of the vocabulary may look like a mark and be none.
        None => USUAL
            .iter()
            .find(is_added)
            .or_else(|| USUAL.iter().find(|mark| inner.token_to_id(mark).is_some()))
            .copied(),
    };
    if let Some((mark, id)) = found.and_then(|mark| Some((mark, inner.token_to_id(mark)?))) {
        return Ok((mark.to_owned(), id));
    }
    let mut marks: Vec<(u32, &str)> =
        added.iter().map(|(id, token)| (*id, token.content.as_str())).collect();
    marks.sort_unstable();
    let more = match marks.len().saturating_sub(TOLD_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let names: Vec<&str> = marks.iter().take(TOLD_MAX).map(|(_, name)| *name).collect();
    let candidates = match names.is_empty() {
        true => "it has no added tokens".to_owned(),
        false => format!("its added tokens are {}{more}", names.join(", ")),
    };
    Err(match named {
        Some(named) => {
            format!("has no token {named}, which data.end_of_document names: {candidates}")
        }
        None => format!(
            "has none of the usual tokens to end documents with: name one as data.end_of_document; {candidates}"
        ),
    })
}

/// Gives every mark of a `tokenizer.json` words that no text has, under its own id. So neither the search
/// for added tokens nor the model finds one in a text, whatever the file says of them.
pub(super) fn disguise(json: &mut Value, end: &str) {
    let unknown = json["model"]["unk_token"].as_str().map(str::to_owned);
    let mut marks = vec![end.to_owned()];
    for token in json["added_tokens"].as_array_mut().into_iter().flatten() {
        let content = token["content"].as_str().unwrap_or_default().to_owned();
        if token["special"] == true || looks_like_a_mark(&content) || content == end {
            token["special"] = true.into();
            // The model looks its unknown token up by its words.
            if content == end || Some(&content) != unknown.as_ref() {
                token["content"] = disguised(&content).into();
                marks.push(content);
            }
        }
    }
    if unknown.as_deref() == Some(end) {
        json["model"]["unk_token"] = disguised(end).into();
    }
    let is_mark = |text: &Value| text.as_str().is_some_and(|text| marks.iter().any(|m| m == text));
    match &mut json["model"]["vocab"] {
        Value::Object(vocabulary) => {
            for mark in &marks {
                if let Some(id) = vocabulary.remove(mark) {
                    vocabulary.insert(disguised(mark), id);
                }
            }
        }
        Value::Array(pieces) => {
            for piece in pieces.iter_mut().filter(|piece| is_mark(&piece[0])) {
                piece[0] = disguised(piece[0].as_str().unwrap_or_default()).into();
            }
        }
        _ => {}
    }
    if let Value::Array(merges) = &mut json["model"]["merges"] {
        merges.retain(|merge| {
            let (left, right) = match merge {
                Value::String(pair) => pair.split_once(' ').unwrap_or_default(),
                pair => {
                    (pair[0].as_str().unwrap_or_default(), pair[1].as_str().unwrap_or_default())
                }
            };
            let made = format!("{left}{right}");
            !marks.iter().any(|mark| [left, right, &made].contains(&mark.as_str()))
        });
    }
}

fn disguised(mark: &str) -> String {
    format!("{DISGUISE}{mark}{DISGUISE}")
}

/// Added tokens that are content, such as runs of blanks, do not look so.
fn looks_like_a_mark(content: &str) -> bool {
    let ends = |open, close| content.starts_with(open) && content.ends_with(close);
    content.len() > 2 && (ends('<', '>') || ends('[', ']'))
}
