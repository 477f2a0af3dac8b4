//! Archives as folders: what is written is read, and nothing of them changes without a word.

use std::path::Path;

use hm_domain::chain::Envelope;
use hm_domain::event::{Event, RunPaused};
use hm_domain::id::{Digest, RunId};
use hm_domain::merkle::{self, SEGMENT_EVENTS};
use hm_store::{ArchiveReader, ArchiveWriter, Head, StoredEvent, codec};

const RUN: RunId = RunId(uuid::Uuid::from_u128(7));

/// More than two segments.
const EVENTS: u64 = 2 * SEGMENT_EVENTS + 9;

fn log(events: u64) -> Vec<StoredEvent> {
    let (mut log, mut chain) = (Vec::new(), Digest::ZERO);
    for seq in 0..events {
        let event = Event::RunPaused(RunPaused { step: seq });
        let (kind, schema_version, payload) = codec::encode(&event);
        let envelope = Envelope {
            run_id: RUN,
            seq,
            attempt: 2,
            step: (seq % 3 > 0).then_some(seq),
            kind,
            schema_version,
            recorded_at: -5 + seq as i64,
            writer_epoch: 1 + seq / 100,
        };
        let hash = envelope.hash(&payload, &chain);
        log.push(StoredEvent { envelope, payload, prev_hash: chain, hash });
        chain = hash;
    }
    log
}

fn head(log: &[StoredEvent]) -> Head {
    let chain = log.last().unwrap().hash;
    let next_seq = log.len() as u64;
    Head { next_seq, chain, writer_epoch: 9, sealed: false, holder: String::new() }
}

fn archive(folder: &Path, log: &[StoredEvent]) {
    let mut writer = ArchiveWriter::begin(folder, RUN).unwrap();
    log.iter().for_each(|stored| writer.push(stored.clone()).unwrap());
    writer.describe(("run".to_owned(), 3), &head(log), Vec::new()).unwrap();
    writer.finish().unwrap();
}

#[test]
fn every_column_of_every_event_comes_back_from_any_place() {
    let place = tempfile::tempdir().unwrap();
    let (folder, log) = (place.path().join("archive"), log(EVENTS));
    archive(&folder, &log);
    let reader = ArchiveReader::open(&folder).unwrap();
    let mut read = Vec::new();
    while let page = reader.page(read.len() as u64).unwrap()
        && !page.is_empty()
    {
        read.extend(page);
    }
    assert!(read == log);
    for from in [1, SEGMENT_EVENTS - 1, SEGMENT_EVENTS, EVENTS - 1] {
        assert_eq!(reader.page(from).unwrap()[0], log[from as usize]);
    }
    assert!(reader.page(EVENTS).unwrap().is_empty());
    let manifest = reader.manifest();
    assert_eq!((manifest.events, manifest.segments.len()), (EVENTS, 3));
    let leaves: Vec<Digest> = log.iter().map(|stored| merkle::leaf(&stored.hash)).collect();
    assert_eq!(manifest.root, merkle::root(&leaves));
}

#[test]
fn payloads_of_a_megabyte_make_row_groups_of_their_own_size() {
    let place = tempfile::tempdir().unwrap();
    let (folder, mut log) = (place.path().join("archive"), log(40));
    let mut chain = Digest::ZERO;
    for stored in &mut log {
        stored.payload = vec![stored.envelope.seq as u8; 1 << 20];
        stored.prev_hash = chain;
        stored.hash = stored.envelope.hash(&stored.payload, &chain);
        chain = stored.hash;
    }
    archive(&folder, &log);
    let reader = ArchiveReader::open(&folder).unwrap();
    let pages: Vec<usize> = [0, 16, 32].map(|from| reader.page(from).unwrap().len()).to_vec();
    assert_eq!(pages, [16, 16, 8]);
}

#[test]
fn broken_log_is_not_archived_and_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let (folder, mut log) = (place.path().join("archive"), log(40));
    log[20].envelope.attempt = 3;
    let mut writer = ArchiveWriter::begin(&folder, RUN).unwrap();
    let refused = log.iter().map(|stored| writer.push(stored.clone())).find_map(Result::err);
    let text = refused.unwrap().to_string();
    assert!(text.contains("broken at seq 20"), "{text}");
    drop(writer);
    let mut writer = ArchiveWriter::begin(&folder, RUN).unwrap();
    log[..20].iter().for_each(|stored| writer.push(stored.clone()).unwrap());
    let described = writer.describe(("run".to_owned(), 3), &head(&log), Vec::new());
    assert!(described.unwrap_err().to_string().contains("the head names another last hash"));
    drop(writer);
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn changed_archive_is_refused_by_the_name_of_what_was_changed() {
    let place = tempfile::tempdir().unwrap();
    let (folder, log) = (place.path().join("archive"), log(50));
    let mut writer = ArchiveWriter::begin(&folder, RUN).unwrap();
    log.iter().for_each(|stored| writer.push(stored.clone()).unwrap());
    writer.describe(("run".to_owned(), 3), &head(&log), Vec::new()).unwrap();
    writer.finish().unwrap();
    let refusal = || {
        let verified = ArchiveReader::open(&folder).and_then(|reader| reader.verify());
        verified.err().map(|error| error.to_string())
    };
    assert_eq!(refusal(), None);
    let manifest = folder.join("archive.json");
    let whole = std::fs::read_to_string(&manifest).unwrap();
    let root = ArchiveReader::open(&folder).unwrap().manifest().root.to_string();
    for (from, to, due) in [
        (root.as_str(), &"0".repeat(64)[..], "its events are not those"),
        ("\"events\": 50", "\"events\": 49", "its events are not those"),
        ("\"format\": 1", "\"format\": 2", "use a newer one"),
        ("\"states\": []", &format!("\"states\": [\"{root}\"]"), "it is missing"),
    ] {
        assert!(whole.contains(from), "{from}");
        std::fs::write(&manifest, whole.replace(from, to)).unwrap();
        assert!(refusal().unwrap().contains(due), "{from}: {:?}", refusal());
    }
    std::fs::write(&manifest, &whole).unwrap();
    let events = folder.join("events.parquet");
    let bytes = std::fs::read(&events).unwrap();
    let mut refused = 0;
    for at in (0..bytes.len()).step_by(7) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        std::fs::write(&events, changed).unwrap();
        match refusal() {
            Some(text) => {
                assert!(text.contains("events.parquet"), "{at}: {text}");
                refused += 1;
            }
            // A bit that says nothing of any event.
            None => assert!(ArchiveReader::open(&folder).unwrap().page(0).unwrap() == log, "{at}"),
        }
    }
    assert!(refused > bytes.len() / 14, "{refused} of {}", bytes.len());
    std::fs::write(&events, &bytes[..bytes.len() - 1]).unwrap();
    assert!(refusal().unwrap().contains("events.parquet"));
}
