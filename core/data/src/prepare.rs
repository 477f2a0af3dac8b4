//! Corpora to a prepared folder: a tokenizer, then shards by domain, then the manifest.
//!
//! The folder is named by what is read: the digest of the settings that matter, of the tokenizer, and of
//! every file's content with what it is called in reports, relative to the run file. How the run file was
//! named, and when a file was written, does not matter; other content has another folder. Lengths and times
//! alone would be read faster, but one `touch` would tokenize everything again, and a file put in place of
//! another with its times kept would not be seen. What was read once is known by inode and times
//! (`known_digests`), so a second start reads nothing.
//!
//! Then two streaming passes: one looks at all text, refuses what cannot be prepared and keeps a sample; one
//! encodes. Memory holds the sample, one document and the line that it stood in (256 MiB each at most), the
//! digests of validation documents that files name, and four bytes a document.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use hm_domain::id::Digest;
use hm_domain::settings::Faults;

use crate::error::{DataError, Result, at};
use crate::hold_out::Side;
use crate::inputs::{Listing, list};
use crate::known_digests::{KnownDigests, refuse_changed};
use crate::manifest::Manifest;
use crate::minimum::refuse_prepared;
use crate::origin::{Origin, contents};
use crate::prepared_folder::{Unfinished, found, place};
use crate::progress::{Meter, Watch};
use crate::shard_set::ShardSet;
use crate::spec::PrepareSpec;
use crate::survey::{Placed, Survey, read_all, survey};
use crate::tokenizer::{Tokenizer, own_refuses, refuse_losses};
use crate::tokenizer_file;
use crate::whole_file;

/// Between looks at whether to stop while a tokenizer is trained.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Prepared data and where it lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// What it holds.
    pub manifest: Manifest,
    /// Its folder, which is never written to again.
    pub folder: PathBuf,
}

/// Prepares a folder in `root`. One that already holds the same is held against its digests and left as
/// it is.
///
/// # Errors
/// When the spec cannot be used, a file cannot be read, or the folder is not what was prepared. Nothing
/// that is half done is left behind.
pub fn prepare(spec: &PrepareSpec, root: &Path, watch: Watch<'_>) -> Result<Prepared> {
    let mut meter = Meter::new(watch);
    let listing = list(spec)?;
    let given = Given::read(spec)?;
    std::fs::create_dir_all(root).map_err(at(root))?;
    let mut known = KnownDigests::open(root);
    let contents = contents(&listing.inputs, &mut known, u64::MAX, &mut meter)?;
    known.save()?;
    let origin = Origin::of(spec, &listing.inputs, &contents, given.as_ref());
    let key = origin.digest();
    let folder = place(root, &key);
    let stop = meter.stop();
    let go_on = move || if stop() { Err(DataError::Stopped) } else { Ok(()) };
    let made = match found(&folder, &key)? {
        Some(manifest) => return whole(spec, manifest, folder, &mut known),
        None => Unfinished::begin(root, &folder, &go_on)?,
    };
    let Some(unfinished) = made else {
        // Another process has made it in the meantime.
        let manifest = Manifest::read(&folder)?;
        return whole(spec, manifest, folder, &mut known);
    };
    let manifest = make(spec, &listing, given, origin, &unfinished.folder, &mut meter)?;
    for (input, content) in listing.inputs.iter().zip(&contents) {
        refuse_changed(&input.path, &content.stamp)?;
    }
    go_on()?;
    unfinished.finish(&folder)?;
    Ok(Prepared { manifest, folder })
}

fn whole(
    spec: &PrepareSpec,
    manifest: Manifest,
    folder: PathBuf,
    known: &mut KnownDigests,
) -> Result<Prepared> {
    refuse_prepared(&spec.validation, &manifest)?;
    manifest.verify(&folder, known)?;
    known.save()?;
    Ok(Prepared { manifest, folder })
}

/// A tokenizer that the spec names, and its file.
pub(crate) struct Given {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) json: Vec<u8>,
}

impl Given {
    /// # Errors
    /// When it cannot be used, or has another vocabulary than the spec says.
    pub(crate) fn read(spec: &PrepareSpec) -> Result<Option<Given>> {
        let Some(path) = &spec.tokenizer else { return Ok(None) };
        let json = tokenizer_file::read(path)?;
        let tokenizer = Tokenizer::of_json(path, &json, spec.end_of_document.as_deref())?;
        let found = tokenizer.vocabulary();
        if let Some(wanted) = spec.vocabulary.filter(|&wanted| wanted != found) {
            let reason = format!(
                "has a vocabulary of {found}, but data.vocabulary is {wanted}: leave that out or make it {found}"
            );
            return Err(DataError::Broken { path: path.clone(), reason });
        }
        Ok(Some(Given { tokenizer, json }))
    }
}

/// Why the tokenizer cannot take a text, if it cannot, whether it is given or to be trained.
pub(crate) fn refuses(given: Option<&Given>, text: &str) -> Option<String> {
    match given {
        Some(given) => given.tokenizer.refuses(text),
        None => own_refuses(text),
    }
}

/// Fills `folder`.
fn make(
    spec: &PrepareSpec,
    listing: &Listing<'_>,
    given: Option<Given>,
    origin: Origin,
    folder: &Path,
    meter: &mut Meter<'_>,
) -> Result<Manifest> {
    let mut warnings = listing.warnings.clone();
    let refuses = |text: &str| refuses(given.as_ref(), text);
    let Survey { mut sides, sample, sample_is_all, warnings: found } =
        survey(spec, &listing.inputs, &refuses, meter)?;
    warnings.extend(found);
    let (tokenizer, json) = match given {
        Some(Given { tokenizer, json }) => {
            meter.begin("trying the tokenizer", listing.inputs.len(), 0);
            refuse_losses(&tokenizer, &sample, &|| meter.go_on())?;
            (tokenizer, json)
        }
        None => {
            let trained = train(spec, sample, listing.inputs.len(), meter)?;
            warnings.extend(refuse_unreached(spec, &trained, sample_is_all)?);
            let json = trained.to_json()?.into_bytes();
            // As it will be read: with the end mark that the spec names.
            let end = spec.end_of_document.as_deref();
            (Tokenizer::of(&json, end).map_err(DataError::Tokenizer)?, json)
        }
    };
    whole_file::write(folder, "tokenizer.json", &json)?;
    let mut shards = ShardSet::new(folder, &tokenizer);
    let stop = meter.stop();
    let go_on = move || if stop() { Err(DataError::Stopped) } else { Ok(()) };
    let inputs = &listing.inputs;
    let files = read_all(spec, inputs, "encoding", meter, &mut |place, document| {
        // In the survey's order, so that both count the same.
        if let Some(reason) = tokenizer.refuses(&document.text) {
            return Ok(Placed::Unusable(reason));
        }
        if document.is_blank() {
            return Ok(Placed::Side(Side::Dropped));
        }
        let side = sides.side(inputs[place].source.split, &document);
        if side == Side::Dropped {
            return Ok(Placed::Side(side));
        }
        shards.add(document, side == Side::HeldOut, &go_on)?;
        Ok(Placed::Side(side))
    })?;
    warnings.extend(shards.losses.told()?);
    let domains = shards.finish(sides.named_domains())?;
    if let Some(domain) = domains.iter().find(|domain| domain.segments.is_empty()) {
        let (domain, why) = (domain.name.clone(), "none was encoded".to_owned());
        return Err(DataError::EmptyDomain { domain, why });
    }
    let manifest = Manifest {
        spec: origin.digest(),
        origin,
        tokenizer: Digest::of(&json),
        vocabulary: tokenizer.vocabulary() as u32,
        end_of_document: tokenizer.end_of_document().0.to_owned(),
        domains,
        files,
        warnings,
    };
    manifest.write(folder)?;
    Ok(manifest)
}

/// Trains a tokenizer in a thread of its own: the library cannot be asked to stop, only be left alone.
fn train(
    spec: &PrepareSpec,
    sample: Vec<(String, String)>,
    files: usize,
    meter: &mut Meter<'_>,
) -> Result<Tokenizer> {
    meter.begin("training the tokenizer", files, 0);
    let (send, receive) = channel();
    let vocabulary = spec.vocabulary();
    let texts: Vec<String> = sample.into_iter().map(|(_, text)| text).collect();
    std::thread::spawn(move || {
        // Nobody listens any more where the work was interrupted.
        let _ = send.send(Tokenizer::train(&texts, vocabulary));
    });
    loop {
        match receive.recv_timeout(LOOK_EVERY) {
            Ok(trained) => return trained,
            Err(RecvTimeoutError::Timeout) => meter.go_on()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(DataError::Tokenizer("its training failed".to_owned()));
            }
        }
    }
}

/// What part of a vocabulary that is typed may be taken for it: a model of a few rows less is the one
/// that was meant.
const NEARLY: f64 = 0.9;

/// Refuses a vocabulary that is much smaller than typed, and gives a warning where it is a little smaller;
/// where none is typed, the usual one is a bound. `is_all` says whether the sample is all text.
pub(crate) fn refuse_unreached(
    spec: &PrepareSpec,
    trained: &Tokenizer,
    is_all: bool,
) -> Result<Option<String>> {
    let (Some(wanted), found) = (spec.vocabulary, trained.vocabulary()) else { return Ok(None) };
    if found >= wanted {
        return Ok(None);
    }
    if found as f64 >= wanted as f64 * NEARLY {
        return Ok(Some(format!(
            "the tokenizer has {found} tokens, not the {wanted} of data.vocabulary: no more pairs come twice \
             in the text"
        )));
    }
    let more = if is_all {
        "give more text".to_owned()
    } else {
        format!("raise data.tokenizer_bytes_max above {}", spec.tokenizer_bytes_max)
    };
    let mut faults = Faults::default();
    let must = format!(
        "must be at most {found}, which is what the text gives, since no more pairs come twice in it: lower it, leave it out to take as many as there are, or {more}"
    );
    faults.add("data.vocabulary", wanted, must);
    Err(faults.into())
}
