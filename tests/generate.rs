//! Text out of a trained model, through the binary.

use crate::place::Place;

fn trained() -> Place {
    let place = Place::with_run_file();
    place.train("run", &["plugins=[]", "training.learning_rate=3.0e-3"]);
    place
}

impl Place {
    fn generated(&self, more: &[&str]) -> serde_json::Value {
        let args = [&["generate", "run", "--prompt", "the cat", "--json"], more].concat();
        serde_json::from_str(&self.ok(&args)).unwrap()
    }
}

#[test]
fn trained_model_goes_on_with_a_text_it_has_learned() {
    let place = trained();
    let found = place.generated(&["--tokens", "20"]);
    assert_eq!(found["tokens"].as_array().unwrap().len(), 20, "{found}");
    assert_eq!(found["end"], "tokens");
    let text = found["text"].as_str().unwrap();
    assert!(text.starts_with(" sat on the mat"), "{text}");
    assert_eq!(place.generated(&["--tokens", "20"])["tokens"], found["tokens"]);

    // Streamed, the same text; and the model's sequence of 64 has an end.
    let streamed = place.ok(&["generate", "run", "--prompt", "the cat", "--tokens", "20"]);
    assert_eq!(streamed.trim_end_matches('\n'), text);
    let long = place.generated(&["--tokens", "500"]);
    let full =
        long["prompt_tokens"].as_array().unwrap().len() + long["tokens"].as_array().unwrap().len();
    assert!(long["end"] == "end-mark" || full == 65, "{long}");

    let warm = ["--temperature", "5", "--tokens", "20", "--seed"];
    let seeded = |seed| place.generated(&[&warm[..], &[seed]].concat())["tokens"].clone();
    assert_eq!(seeded("1"), seeded("1"));
    assert_ne!(seeded("1"), seeded("2"));
}

#[test]
fn what_cannot_be_generated_is_refused_with_its_value() {
    let place = trained();
    let refused = |more: &[&str]| {
        let args = [&["generate", "run", "--prompt"], more].concat();
        place.refused(&args, 2)
    };
    assert!(refused(&[""]).contains("the prompt is empty"));
    let text = refused(&[&"the cat ".repeat(100)]);
    assert!(text.contains("holds 64"), "{text}");
    let text = refused(&["the cat", "--temperature=-1"]);
    assert!(text.contains("temperature is -1"), "{text}");
    let text = place.refused(&["generate", "no-such-run", "--prompt", "a"], 2);
    assert!(text.contains("no-such-run"), "{text}");
}
