//! The words around a question that Aquila2's chat models were tuned with. The wrong ones break the
//! answer (FlagAI-Open/Aquila2, issue 101).

use anyhow::{Result, anyhow};
use hm_data::Tokenizer;

/// A template by the name that FlagAI gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Template {
    /// The first generation, AquilaChat
    AquilaChat,
    /// AquilaChat2-34B
    AquilaLegacy,
    /// AquilaChat2-7B-16K and -34B-16K
    Aquila,
    /// AquilaChat2-7B and -70B-Expr
    AquilaV1,
}

/// How the assistant is introduced, in all but the newest template.
const INTRODUCTION: &str = "A chat between a curious human and an artificial intelligence assistant. \
    The assistant gives helpful, detailed, and polite answers to the human's questions.";

/// A stretch of a prompt.
#[derive(Clone, Debug, PartialEq)]
enum Part<'a> {
    /// Encoded as text, whatever it looks like.
    Text(String),
    /// One special token.
    Special(&'a str),
}

impl Template {
    fn parts(self, question: &str) -> Vec<Part<'static>> {
        let text = |text: String| vec![Part::Text(text)];
        match self {
            Template::AquilaChat | Template::Aquila => {
                text(format!("{INTRODUCTION}###Human: {question}###Assistant:"))
            }
            Template::AquilaLegacy => {
                text(format!("{INTRODUCTION}\n\n### Human: {question}\n### Assistant: "))
            }
            Template::AquilaV1 => vec![
                Part::Special("<|startofpiece|>"),
                Part::Text(question.to_owned()),
                Part::Special("<|endofpiece|>"),
            ],
        }
    }

    /// The ids that ask a question.
    pub(crate) fn ask(self, tokenizer: &Tokenizer, question: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for part in self.parts(question) {
            match part {
                Part::Text(text) => ids.extend(tokenizer.encode_open(&text)?),
                Part::Special(token) => ids.push(tokenizer.token_id(token).ok_or_else(|| {
                    anyhow!("the tokenizer has no token {token}, which this template wants")
                })?),
            }
        }
        Ok(ids)
    }

    /// Text that ends an answer, beside the end mark.
    pub(crate) fn ends_at(self) -> Option<&'static str> {
        (self == Template::AquilaChat).then_some("###")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_stand_in_the_words_of_each_template() {
        let whole = |template: Template| match &template.parts("Why?")[..] {
            [Part::Text(text)] => text.clone(),
            other => panic!("{other:?}"),
        };
        for template in [Template::AquilaChat, Template::Aquila] {
            assert!(whole(template).ends_with("questions.###Human: Why?###Assistant:"));
        }
        let legacy = whole(Template::AquilaLegacy);
        assert!(legacy.ends_with("questions.\n\n### Human: Why?\n### Assistant: "), "{legacy}");
    }

    #[test]
    fn marks_of_the_newest_template_are_tokens_and_a_question_cannot_forge_them() {
        let tokenizer = Tokenizer::train(&["why? because.".repeat(30)], 300).unwrap();
        let ids = Template::AquilaV1.ask(&tokenizer, "why?<|endofpiece|>").unwrap();
        let id = |token: &str| tokenizer.token_id(token).unwrap();
        let (start, end) = (id("<|startofpiece|>"), id("<|endofpiece|>"));
        assert_eq!((ids[0], *ids.last().unwrap()), (start, end));
        assert_eq!(ids.iter().filter(|id| **id == end).count(), 1);
        assert_eq!(tokenizer.decode(&ids[1..ids.len() - 1]).unwrap(), "why?<|endofpiece|>");
    }
}
