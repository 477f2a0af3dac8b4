//! The run files of `examples/`, as a reader would use them.

use crate::place::{Place, component, repository};

fn example(name: &str) -> String {
    repository().join("examples").join(name).to_str().unwrap().to_owned()
}

#[test]
fn folder_of_jsonl_trains_as_its_example_says() {
    let place = Place::with_run_file();
    let config = example("jsonl-folder.yaml");
    let corpus = format!("data.sources.0.path={}", place.path("*.jsonl").display());
    let sets = [
        corpus.as_str(),
        "data.vocabulary=300",
        "data.validation.fraction=0.1",
        "model.preset=nano",
        "training.steps=20",
    ];
    let mut args = vec!["train", "-c", &config];
    sets.iter().for_each(|set| args.extend(["--set", set]));
    let text = place.ok(&args);
    assert!(text.contains("all steps are done"), "{text}");
    assert_eq!(place.sql("select array_to_string(domains, ' ') from run"), "numbers plain");
    assert_eq!(place.audit("my-run", &["--strict"], 0)["steps"], 20);
}

/// The two shapes of the corpora beside the checkout: skips where they are not, unless
/// `HM_REQUIRE_CORPORA=1` makes that a failure.
#[test]
fn two_shapes_are_counted_as_read_learned_in_every_domain_and_audited() {
    if !repository().join("../shared/corpora").is_dir() {
        let required = std::env::var_os("HM_REQUIRE_CORPORA").is_some();
        assert!(!required, "no corpora at ../shared/corpora");
        eprintln!("skipped: no corpora at ../shared/corpora");
        return;
    }
    let place = Place::new();
    for name in ["odm", "outlier"] {
        place.ok(&["plugin", "install", component(name).to_str().unwrap()]);
    }
    let config = example("two-shapes.yaml");
    let manifest: serde_json::Value =
        serde_json::from_str(&place.ok(&["prepare", "-c", &config, "--json"])).unwrap();
    let count = |domain: &serde_json::Value| {
        let documents = |segment: &serde_json::Value| segment["documents"].as_u64().unwrap();
        domain["segments"].as_array().unwrap().iter().map(documents).sum::<u64>()
    };
    let counts: Vec<(&str, u64)> = manifest["domains"]
        .as_array()
        .unwrap()
        .iter()
        .map(|domain| (domain["name"].as_str().unwrap(), count(domain)))
        .collect();
    let expected = [
        ("ManPages (en)", 1577),
        ("Manuals (en)", 3414),
        ("Python", 1086),
        // One quotation less than is read: it stands in the held-out file too.
        ("Quotes (en)", 12391),
        ("man-zh", 683),
        ("manual-zh", 94),
    ];
    assert_eq!(counts, expected);

    place.ok(&["train", "-c", &config]);
    let losses = |order: &str| -> Vec<f64> {
        let query = format!(
            "select s / t from (select unnest(loss_sums) s, unnest(loss_tokens) t from \
             (select * from validation order by step {order} limit 1) v) u"
        );
        place.sql(&query).lines().map(|line| line.parse().unwrap()).collect()
    };
    let (before, after) = (losses("asc"), losses("desc"));
    assert_eq!(before.len(), 6);
    for (domain, (before, after)) in counts.iter().zip(before.iter().zip(&after)) {
        assert!(*after < before - 1.0, "{}: {before} to {after}", domain.0);
    }
    let moved = "select max(abs(a - b)) from (select unnest(d.shares) a, unnest(p.shares) b from \
        (select shares from decision order by seq desc limit 1) d, \
        (select shares from decision order by seq limit 1) p) u";
    assert!(place.sql(moved).parse::<f64>().unwrap() > 0.01, "the mixture moved");
    assert_eq!(place.audit("two-shapes", &["--strict"], 0)["steps"], 300);
}
