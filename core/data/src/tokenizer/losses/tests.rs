use serde_json::{Value, json};

use super::*;

fn sample(texts: &[(&str, &str)]) -> Vec<(String, String)> {
    texts.iter().map(|(domain, text)| ((*domain).to_owned(), (*text).to_owned())).collect()
}

/// What is told of all of these texts.
fn told(tokenizer: &Tokenizer, texts: &[(&str, &str)]) -> Result<Vec<String>> {
    let mut losses = Losses::new(tokenizer);
    for (domain, text) in texts {
        losses.count(domain, text, &tokenizer.encode_piece(text).unwrap()).unwrap();
    }
    losses.told()
}

fn refusal(tokenizer: &Tokenizer, texts: &[(&str, &str)]) -> String {
    told(tokenizer, texts).unwrap_err().to_string()
}

/// A tokenizer of this model's tokens and the usual end mark, changed by `with`.
fn tokenizer(tokens: &[String], with: Value) -> Tokenizer {
    let mut vocabulary = tokens.to_vec();
    vocabulary.extend(["<unk>".to_owned(), "</s>".to_owned()]);
    let ids: serde_json::Map<String, Value> =
        vocabulary.into_iter().enumerate().map(|(id, token)| (token, id.into())).collect();
    let mut json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null,
        "decoder": null,
        "model": {"type": "BPE", "unk_token": null, "vocab": ids, "merges": []},
    });
    for (place, value) in with.as_object().unwrap() {
        *json.pointer_mut(place).unwrap() = value.clone();
    }
    Tokenizer::of(json.to_string().as_bytes(), None).unwrap()
}

fn letters() -> Vec<String> {
    ('a'..='z').map(String::from).collect()
}

fn unknown() -> Value {
    json!({"/model/unk_token": "<unk>"})
}

fn by_bytes() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})
}

#[test]
fn a_tokenizer_that_cannot_say_a_domain_is_refused_with_the_share() {
    for with in [unknown(), json!({})] {
        let tokenizer = tokenizer(&letters(), with);
        let texts = [("en", "plain words"), ("zh", "数据 mix 混合"), ("en", "more")];
        let refused = refusal(&tokenizer, &texts);
        let share = "57.14 % of domain `zh` (4 of 7 characters, such as ";
        assert!(refused.contains(share), "{refused}");
        let refused = refuse_losses(&tokenizer, &sample(&texts), &|| Ok(())).unwrap_err();
        let share = "(4 of 7 characters of a sample of it, such as ";
        assert!(refused.to_string().contains(share), "{refused}");
        assert_eq!(told(&tokenizer, &texts[..1]).unwrap(), [""; 0]);
    }
}

#[test]
fn what_comes_late_counts_as_what_comes_early_and_the_share_is_that_of_all_text() {
    let tokenizer = tokenizer(&letters(), unknown());
    let (english, chinese) = ("plain words ".repeat(300), "训练数据的混合比例 ".repeat(40));
    let mut texts = vec![("c", english.as_str()); 300];
    texts.extend([("c", chinese.as_str()); 300]);
    for _ in 0..2 {
        let refused = refusal(&tokenizer, &texts);
        assert!(
            refused.contains("10.71 % of domain `c` (108000 of 1008000 characters"),
            "{refused}"
        );
        let refused = refuse_losses(&tokenizer, &sample(&texts), &|| Ok(())).unwrap_err();
        assert!(refused.to_string().contains(" % of domain `c` ("), "{refused}");
        texts.reverse();
    }
}

#[test]
fn a_sample_alone_refuses_only_what_all_text_will_not_mend() {
    let tokenizer = tokenizer(&letters(), unknown());
    let text = format!("{} 数", "word ".repeat(50));
    let texts = [("en", text.as_str())];
    assert!(refuse_losses(&tokenizer, &sample(&texts), &|| Ok(())).is_ok());
    assert!(refusal(&tokenizer, &texts).contains("0.50 % of domain `en` (1 of 201 characters"));
}

#[test]
fn a_stray_symbol_is_told() {
    let text = format!("{} 数", "word ".repeat(1000));
    let told = told(&tokenizer(&letters(), unknown()), &[("en", &text)]).unwrap();
    let sentence = "the tokenizer cannot say 0.02 % of domain `en` (1 of 4001 characters, such as 数): they are lost";
    assert_eq!(told, [sentence]);
}

#[test]
fn characters_of_which_a_byte_is_missing_are_lost_and_no_others() {
    // é is C3 A9, è C3 A8, à C3 A0: bytes that are written as Ã © ¨ and (for A0) ł.
    let mut tokens = letters();
    tokens.extend(["Ã", "©", "Ġ"].map(String::from));
    for with in [
        json!({"/pre_tokenizer": by_bytes()}),
        // The token for the unknown stands for one byte then.
        json!({"/pre_tokenizer": by_bytes(), "/model/unk_token": "<unk>"}),
    ] {
        let tokenizer = tokenizer(&tokens, with);
        let refused = refusal(&tokenizer, &[("fr", "près du café à la crème, été")]);
        let share = "18.18 % of domain `fr` (4 of 22 characters, such as è à ,)";
        assert!(refused.contains(share), "{refused}");
    }
}

#[test]
fn white_space_is_lost_where_a_model_has_a_place_for_it_and_no_token() {
    let mut tokens = letters();
    tokens.push("Ġ".to_owned());
    let tokenizer = tokenizer(&tokens, json!({"/pre_tokenizer": by_bytes()}));
    let refused = refusal(&tokenizer, &[("code", "if x\n\tpass")]);
    assert!(refused.contains(r"(2 of 9 characters, such as '\n' '\t')"), "{refused}");
    assert_eq!(
        told(&self::tokenizer(&letters(), json!({})), &[("en", "a\n\tb")]).unwrap(),
        [""; 0]
    );
}

#[test]
fn what_a_normalizer_takes_away_is_lost_where_it_can_be_seen() {
    let strip = json!({"type": "Replace", "pattern": {"Regex": "[^a-z ]"}, "content": ""});
    let tokenizer = tokenizer(&letters(), json!({"/normalizer": strip}));
    let refused = refusal(&tokenizer, &[("zh", "数据 mix\u{200b} e\u{301}")]);
    assert!(refused.contains("(2 of 8 characters, such as 数 据)"), "{refused}");
    let lower = json!({"type": "Lowercase"});
    let tokenizer = self::tokenizer(&letters(), json!({"/normalizer": lower}));
    assert_eq!(told(&tokenizer, &[("en", "Plain WORDS")]).unwrap(), [""; 0]);
}

#[test]
fn a_word_that_becomes_unknown_is_lost_whole() {
    let model = json!({"type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": {"<unk>": 0, "</s>": 1, "plain": 2, "a": 3}});
    let tokenizer = tokenizer(&[], json!({"/model": model}));
    let refused = refusal(&tokenizer, &[("en", "plain ab a plain")]);
    assert!(refused.contains("(2 of 13 characters, such as ab)"), "{refused}");
}

#[test]
fn every_domain_over_the_limit_counts_and_the_worst_are_named_first() {
    let tokenizer = tokenizer(&letters(), unknown());
    let texts = [("a", "x数"), ("b", "xx数"), ("c", "数"), ("d", "xxx数"), ("e", "fine")];
    let refused = refusal(&tokenizer, &texts);
    assert!(refused.contains("cannot say 100.00 % of domain `c`"), "{refused}");
    assert!(refused.contains(", 33.33 % of domain `b`"), "{refused}");
    assert!(refused.contains(", and of 1 more domains: bring one"), "{refused}");
}

#[test]
fn bytes_say_everything() {
    let tokenizer = Tokenizer::train(&["plain words".to_owned()], 300).unwrap();
    let texts = [("all", "数据 mix é \u{1f600} \0 \u{feff}x \u{301}")];
    assert_eq!(told(&tokenizer, &texts).unwrap(), [""; 0]);
}
