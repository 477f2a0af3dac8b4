//! What plugins are called, and which one is meant.

mod cluster;

use cluster::{Bench, bench};
use hm_domain::id::Digest;
use hm_domain::plugin::{Description, World};
use hm_store::{PluginRow, StoreError};

/// Installs bytes that call themselves so; their digest.
async fn install(bench: &Bench, (name, version): (&str, &str), wasm: &[u8], at: i64) -> Digest {
    let description = Description {
        name: name.to_owned(),
        version: version.to_owned(),
        documentation: String::new(),
        config_schema: "{}".to_owned(),
        columns: Vec::new(),
        every_steps: 1,
        gates: false,
        watches: false,
        wants_timings: false,
    };
    let row = PluginRow {
        digest: Digest::of(wasm),
        world: World::Policy,
        interface: "0.1.0".to_owned(),
        description,
        check: serde_json::json!([]),
        installed_at: at,
    };
    bench.store.install_plugin(&row, wasm, "me").await.unwrap();
    row.digest
}

async fn meant(bench: &Bench, wanted: &str) -> Option<Digest> {
    bench.store.plugin(wanted).await.unwrap().map(|row| row.digest)
}

#[tokio::test(flavor = "multi_thread")]
async fn name_and_version_that_two_share_name_neither() {
    let bench = bench().await;
    let first = install(&bench, ("odm", "0.1.0"), b"first", 1).await;
    assert_eq!(meant(&bench, "odm@0.1.0").await, Some(first));
    // The same bytes again are no second plugin.
    install(&bench, ("odm", "0.1.0"), b"first", 2).await;
    assert_eq!(meant(&bench, "odm@0.1.0").await, Some(first));
    let second = install(&bench, ("odm", "0.1.0"), b"second", 3).await;
    let refused = bench.store.plugin("odm@0.1.0").await.unwrap_err();
    let due = format!(
        "2 plugins are called `odm@0.1.0`: {}, {}; name one by its digest",
        second.short(),
        first.short()
    );
    assert_eq!(refused.to_string(), due);
    for digest in [first, second] {
        assert_eq!(meant(&bench, &digest.to_string()).await, Some(digest));
        assert_eq!(meant(&bench, &digest.short()).await, Some(digest));
    }
    let others = bench.store.plugins_called("odm", "0.1.0").await.unwrap();
    assert_eq!(others.iter().map(|row| row.digest).collect::<Vec<_>>(), [second, first]);
    // By its name alone, a plugin is the one installed last; a raised version is one of its own.
    assert_eq!(meant(&bench, "odm").await, Some(second));
    let raised = install(&bench, ("odm", "0.2.0"), b"third", 4).await;
    assert_eq!(meant(&bench, "odm@0.2.0").await, Some(raised));
    assert_eq!(meant(&bench, "odm").await, Some(raised));
    assert_eq!(meant(&bench, "odm@0.3.0").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn digits_of_a_digest_win_over_whatever_is_called_so() {
    let bench = bench().await;
    let honest = install(&bench, ("static", "0.1.0"), b"honest", 1).await;
    for digits in [6, 8, 14, 64] {
        let name = &honest.to_string()[..digits];
        install(&bench, (name, "1"), format!("impostor {digits}").as_bytes(), 2).await;
        assert_eq!(meant(&bench, name).await, Some(honest), "{name}");
        assert_eq!(meant(&bench, &name.to_uppercase()).await, Some(honest), "{name}");
    }
    // Fewer are no digits, but a name.
    assert_eq!(meant(&bench, &honest.to_string()[..5]).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn digits_that_two_share_name_neither() {
    let bench = bench().await;
    // Two of 5000 contents share six digits more often than not; these do.
    let mut seen = std::collections::BTreeMap::new();
    let (a, b) = (0u32..)
        .find_map(|number| {
            let key = Digest::of(&number.to_le_bytes()).to_string()[..6].to_owned();
            seen.insert(key, number).map(|before| (before, number))
        })
        .unwrap();
    for number in [a, b] {
        install(&bench, ("static", &number.to_string()), &number.to_le_bytes(), 1).await;
    }
    let digits = &Digest::of(&a.to_le_bytes()).to_string()[..6];
    let refused = bench.store.plugin(digits).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Ambiguous { plugins, .. } if plugins.len() == 2));
}
