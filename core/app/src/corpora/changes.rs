//! What of an unfinished run's data is another by now, told before anything is prepared: by what its own
//! prepared folder was made from.

use std::path::Path;

use anyhow::Result;
use hm_data::Manifest;
use hm_domain::id::Digest;
use hm_domain::spec::RunSpec;

use crate::corpora::prepare::{root, watched};
use crate::run_file::RunFile;
use crate::workplace::Workplace;

/// In sentences; none where nothing surely changed, or the data of then is no longer here. At most so many
/// bytes of files are read that are not known from before.
pub(crate) fn since(
    workplace: &Workplace,
    then: &RunSpec,
    file: &RunFile,
    (read_bytes_max, stop): (u64, &dyn Fn() -> bool),
) -> Result<Vec<String>> {
    let root = root(workplace);
    let of_then = prepared_for(&root, then);
    if of_then.is_empty() {
        return Ok(Vec::new());
    }
    let now = watched(stop, |watch| hm_data::origin(&file.data, &root, read_bytes_max, watch))?;
    // The same came out of each of them.
    let changes = of_then.iter().map(|then| now.changes_since(&then.origin, then.vocabulary));
    Ok(changes.min_by_key(Vec::len).unwrap_or_default())
}

/// What was prepared in `root` that is the run's to the letter.
fn prepared_for(root: &Path, spec: &RunSpec) -> Vec<Manifest> {
    let folders = std::fs::read_dir(root).into_iter().flatten().flatten();
    folders
        .filter_map(|folder| Manifest::read(&folder.path()).ok())
        .filter(|manifest| {
            manifest.tokenizer == spec.tokenizer && shards_of(manifest) == shards(spec)
        })
        .collect()
}

/// Digests of a domain's shards, and of what is held out of it.
type Shards = (Vec<Digest>, Option<Digest>);

fn shards_of(manifest: &Manifest) -> Vec<Shards> {
    let domains = manifest.domains.iter().map(|domain| {
        let segments = domain.segments.iter().map(|segment| segment.digest);
        (
            segments.collect::<Vec<Digest>>(),
            domain.validation.as_ref().map(|held_out| held_out.digest),
        )
    });
    domains.collect()
}

fn shards(spec: &RunSpec) -> Vec<Shards> {
    let domains = spec.domains.iter().map(|domain| {
        let segments = domain.segments.iter().map(|segment| segment.digest);
        (
            segments.collect::<Vec<Digest>>(),
            domain.validation.as_ref().map(|held_out| held_out.digest),
        )
    });
    domains.collect()
}
