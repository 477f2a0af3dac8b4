//! `hm audit --attest`: what an audit found as a signed statement, in in-toto's form.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use hm_domain::id::Digest;
use serde_json::{Value, json};

use crate::prove::anchors::Head;
use crate::prove::dsse::Envelope;
use crate::prove::key::Key;
use crate::whole_file;

/// What in-toto calls its statements in an envelope.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

const STATEMENT: &str = "https://in-toto.io/Statement/v1";

/// What a statement of ours says, and in which fields: ARCHITECTURE has it.
const PREDICATE: &str = "urn:x-heurimentor:audit:v1";

/// What was audited, and with what.
pub(crate) struct Audited<'a> {
    pub(crate) run: &'a str,
    pub(crate) head: Head,
    /// Plugins whose calls were executed again.
    pub(crate) plugins: &'a BTreeSet<Digest>,
    /// Engine that executed them.
    pub(crate) engine: Digest,
    /// The report as `--json` prints it: levels, counts, anchors, the trainer's word.
    pub(crate) report: Value,
}

impl Audited<'_> {
    fn statement(&self) -> Value {
        let Audited { run, head, plugins, engine, report } = self;
        json!({
            "_type": STATEMENT,
            "subject": [{"name": format!("run {run}"), "digest": {"sha256": head.hash}}],
            "predicateType": PREDICATE,
            "predicate": {
                "tool": {"name": "hm", "version": env!("CARGO_PKG_VERSION")},
                "engine": engine,
                "plugins": plugins,
                "range": {"first_seq": 0, "last_seq": head.seq},
                "report": report,
            },
        })
    }

    /// Signs the statement into a file, which is whole or not there.
    pub(crate) fn write(&self, key: &Key, file: &Path) -> Result<()> {
        let envelope = Envelope::sign(key, PAYLOAD_TYPE, &self.statement())?;
        write_line(file, serde_json::to_vec(&envelope)?)
    }
}

/// Writes a text of one line whole.
pub(crate) fn write_line(file: &Path, mut line: Vec<u8>) -> Result<()> {
    line.push(b'\n');
    whole_file::write(file, &line).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn statement_has_the_fields_that_in_toto_asks_for_and_the_key_signs_it() {
        let folder = tempfile::tempdir().unwrap();
        let (file, key) = (folder.path().join("statement.json"), Key::from_seed([3; 32]));
        let head = Head { seq: 8, hash: Digest::of(b"head") };
        let plugins = BTreeSet::from([Digest::of(b"plugin")]);
        let (engine, report) = (Digest::of(b"engine"), json!({"verdict": "proved"}));
        Audited { run: "x", head, plugins: &plugins, engine, report }.write(&key, &file).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let outer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(outer["payloadType"], "application/vnd.in-toto+json");
        let signed = Envelope::parse(&text).unwrap().open(&key.public()).unwrap();
        let statement: Value = serde_json::from_slice(&signed).unwrap();
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(statement["subject"][0]["digest"]["sha256"], head.hash.to_string());
        assert_eq!(statement["predicate"]["range"]["last_seq"], 8);
        assert_eq!(statement["predicate"]["report"]["verdict"], "proved");
        assert_eq!(statement["predicate"]["plugins"][0], Digest::of(b"plugin").to_string());
        let mut names: Vec<_> = statement.as_object().unwrap().keys().cloned().collect();
        names.sort();
        assert_eq!(names, ["_type", "predicate", "predicateType", "subject"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half is left");
    }
}
