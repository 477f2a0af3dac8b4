use super::*;

#[test]
fn text_of_any_language_round_trips_and_special_tokens_stand_where_aquila2_has_them() {
    let texts = vec!["the cat sat on the mat. 数据混合的比例 ".repeat(50)];
    let tokenizer = Tokenizer::train(&texts, 300).unwrap();
    let id = |token: &str| tokenizer.token_id(token).unwrap() as usize;
    assert_eq!(id(END_OF_TEXT), 0);
    assert_eq!(id(END_OF_DOCUMENT), tokenizer.vocabulary() - 1);
    assert_eq!(id(BEGIN_OF_TEXT), tokenizer.vocabulary() - 2);
    let text = "a cat, 数据 — naïve\n\tend";
    let ids = tokenizer.encode(text).unwrap();
    assert_eq!(*ids.last().unwrap() as usize, id(END_OF_DOCUMENT));
    assert_eq!(tokenizer.decode(&ids).unwrap(), text);
}

#[test]
fn vocabulary_too_small_for_bytes_is_refused() {
    assert!(Tokenizer::train(&[], 100).is_err());
}

#[test]
fn text_that_looks_like_a_special_token_is_text() {
    let tokenizer = Tokenizer::train(&["<s>struck</s> out".repeat(20)], 300).unwrap();
    let ids = tokenizer.encode("struck</s> out[MASK]").unwrap();
    let end = tokenizer.end_of_document().1;
    assert_eq!(ids.iter().filter(|&&id| id == end).count(), 1);
    assert_eq!(tokenizer.decode(&ids).unwrap(), "struck</s> out[MASK]");
}

#[test]
fn a_file_is_refused_by_name_when_it_is_no_tokenizer_or_cannot_end_documents() {
    let path = Path::new("given/tokenizer.json");
    let error = Tokenizer::of_json(path, b"{", None).err().unwrap().to_string();
    assert!(error.starts_with("given/tokenizer.json: not a tokenizer"), "{error}");
    let tokenizer = Tokenizer::train(&["a".to_owned()], 300).unwrap();
    let json = tokenizer.to_json().unwrap();
    let other = json.replace(END_OF_DOCUMENT, "<end>").replace(END_OF_TEXT, "<pad>");
    let error = Tokenizer::of_json(path, other.as_bytes(), None).err().unwrap().to_string();
    let sentence = "given/tokenizer.json: has none of the usual tokens to end documents with: name one as data.end_of_document; its added tokens are <pad>, <|startofpiece|>";
    assert!(error.starts_with(sentence) && error.ends_with("[CLS], <end>"), "{error}");
    let named = Tokenizer::of_json(path, other.as_bytes(), Some("<end>")).unwrap();
    assert_eq!(named.end_of_document().0, "<end>");
    let error = Tokenizer::of_json(path, json.as_bytes(), Some("<eos>")).err().unwrap();
    let sentence = "has no token <eos>, which data.end_of_document names";
    assert!(error.to_string().contains(sentence), "{error}");
    let read = Tokenizer::of_json(path, json.as_bytes(), None).unwrap();
    assert_eq!(read.vocabulary(), tokenizer.vocabulary());
    assert_eq!(read.encode("a b").unwrap(), tokenizer.encode("a b").unwrap());
}

#[test]
fn tokenizers_differ_by_what_their_ids_mean_and_not_by_marks_or_by_what_is_added() {
    let texts = ["the cat sat on the mat ".repeat(20)];
    let ours = Tokenizer::train(&texts, 290).unwrap();
    let json = ours.to_json().unwrap();
    assert_eq!(ours.differs_from(&ours), None);
    let renamed = json.replace("[gMASK]", "<|user|>");
    let mut more: Value = serde_json::from_str(&json).unwrap();
    let mut added = more["added_tokens"][1].clone();
    added["id"] = ours.vocabulary().into();
    added["content"] = "<|tool|>".into();
    more["added_tokens"].as_array_mut().unwrap().push(added);
    for json in [renamed, more.to_string()] {
        let theirs = Tokenizer::of(json.as_bytes(), None).unwrap();
        assert_eq!((theirs.differs_from(&ours), ours.differs_from(&theirs)), (None, None));
    }
    let fewer = Tokenizer::train(&texts, 270).unwrap();
    let difference = fewer.differs_from(&ours).unwrap();
    assert_eq!((difference.ids, difference.first.0), (270, 262), "{difference:?}");
    assert_eq!(difference.first.1, "<|startofpiece|>");
}

#[test]
fn ids_that_a_file_leaves_out_count_and_its_truncation_does_not() {
    let tokenizer = Tokenizer::train(&["a".to_owned()], 300).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&tokenizer.to_json().unwrap()).unwrap();
    json["truncation"] = serde_json::json!({
        "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0
    });
    json["model"]["vocab"]["z"] = 999.into();
    let read = Tokenizer::of_json(Path::new("t"), json.to_string().as_bytes(), None).unwrap();
    let ids = read.encode("abcdefgz").unwrap();
    assert_eq!(read.decode(&ids).unwrap(), "abcdefgz");
    assert_eq!((read.vocabulary(), ids[7]), (1000, 999));
}

/// One end mark, at the end, and the text is a text.
fn ends_once(tokenizer: &Tokenizer, text: &str) {
    let ids = tokenizer.encode(text).unwrap();
    let end = tokenizer.end_of_document().1;
    assert_eq!(ids.iter().filter(|id| **id == end).count(), 1, "{text}");
    assert_eq!(*ids.last().unwrap(), end);
    let said = tokenizer.decode(&ids).unwrap();
    let plain = |text: &str| text.replace([' ', '▁'], "");
    assert_eq!(plain(&said), plain(text));
}

#[test]
fn marks_in_a_text_are_text_whatever_the_file_says_of_them() {
    let text = "old</s> new <|endoftext|> [CLS] </s></s>";
    let ours = Tokenizer::train(&[text.repeat(20)], 300).unwrap();
    let json: Value = serde_json::from_str(&ours.to_json().unwrap()).unwrap();
    ends_once(&ours, text);
    for flags in [
        serde_json::json!({"special": false}),
        serde_json::json!({"special": false, "normalized": true, "lstrip": true, "rstrip": true}),
        serde_json::json!({"special": true, "single_word": true}),
    ] {
        let mut theirs = json.clone();
        for token in theirs["added_tokens"].as_array_mut().unwrap() {
            for (key, value) in flags.as_object().unwrap() {
                token[key] = value.clone();
            }
        }
        let theirs = Tokenizer::of(theirs.to_string().as_bytes(), None).unwrap();
        ends_once(&theirs, text);
        assert_eq!(theirs.encode(text).unwrap(), ours.encode(text).unwrap());
    }
}

#[test]
fn marks_that_the_model_itself_can_say_are_text_too() {
    // Pieces of a sentence-piece vocabulary, and a byte-pair one that merges its way to the mark.
    let letters = "▁<>/sabetxdo|nfr";
    let mut pieces = vec![serde_json::json!(["<unk>", 0.0]), serde_json::json!(["</s>", -0.5])];
    pieces.extend(letters.chars().map(|letter| serde_json::json!([letter.to_string(), -3.0])));
    let unigram = serde_json::json!({"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": false});
    let mut vocabulary: Vec<String> = letters.chars().map(String::from).collect();
    vocabulary.extend(["<unk>", "</", "s>", "</s>"].map(String::from));
    let ids: serde_json::Map<String, Value> =
        vocabulary.into_iter().enumerate().map(|(id, piece)| (piece, id.into())).collect();
    let merges = serde_json::json!([["<", "/"], ["s", ">"], ["</", "s>"]]);
    let pairs =
        serde_json::json!({"type": "BPE", "unk_token": "<unk>", "vocab": ids, "merges": merges});
    for model in [unigram, pairs] {
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "post_processor": null, "model": model,
            "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
            "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        });
        let tokenizer = Tokenizer::of(json.to_string().as_bytes(), None).unwrap();
        assert_eq!(tokenizer.end_of_document().0, "</s>");
        ends_once(&tokenizer, "a note </s> added </s>");
    }
}

#[test]
fn documents_end_with_the_mark_that_is_usual_with_a_tokenizer() {
    let ours = Tokenizer::train(&["a".to_owned()], 300).unwrap();
    let json = ours.to_json().unwrap();
    assert_eq!(ours.end_of_document(), (END_OF_DOCUMENT, 264));
    for (mark, text) in [
        (END_OF_TEXT, json.replace(END_OF_DOCUMENT, "<end>")),
        (
            "<|end_of_text|>",
            json.replace(END_OF_DOCUMENT, "<|end_of_text|>").replace(END_OF_TEXT, "<pad>"),
        ),
    ] {
        let theirs = Tokenizer::of(text.as_bytes(), None).unwrap();
        assert_eq!(theirs.end_of_document().0, mark);
        ends_once(&theirs, "a <|end_of_text|> b <|endoftext|> c");
    }
}

#[test]
fn a_long_document_is_encoded_in_little_memory_and_one_without_a_place_to_cut_is_refused() {
    let tokenizer = Tokenizer::train(&["word ".repeat(20)], 300).unwrap();
    let text = "word and more of it, ".repeat(100_000);
    assert!(tokenizer.pieces(&text).iter().all(|piece| piece.len() < cuts::PIECE_BYTES + 100));
    assert_eq!(tokenizer.refuses(&text), None);
    let knot = "a".repeat(cuts::PIECE_BYTES_MAX + 1);
    assert!(tokenizer.refuses(&knot).unwrap().contains("cannot be cut, more than 16777216"));
}
