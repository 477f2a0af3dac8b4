//! What an audit holds a chain against: heads that were kept elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use hm_domain::audit::Divergence;
use hm_domain::id::{Digest, RunId};
use serde::Serialize;

use crate::prove::anchors::{Anchor, AnchorFile, Head, SIGNED_HEAD};
use crate::prove::dsse::Envelope;
use crate::prove::key::{Key, PublicKey};

/// Heads of one origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    from: String,
    /// Key that has signed them all; none of what was typed.
    signed_by: Option<Digest>,
    pub(crate) heads: Vec<Head>,
    /// What could not be used of it, in a sentence.
    remark: Option<String>,
}

/// All heads that an audit was given or found on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Anchors(Vec<Told>);

/// How a chain stands to the heads of one origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Held {
    /// File, or `--head`.
    pub(crate) from: String,
    /// Key that has signed them.
    pub(crate) signed_by: Option<Digest>,
    /// Heads of this run in it.
    pub(crate) heads: u64,
    /// Those that the chain passes through.
    pub(crate) held: u64,
    /// What could not be used of it.
    pub(crate) remark: Option<String>,
}

impl Anchors {
    /// Heads that were typed, those in files that were named, and those that this machine kept itself.
    ///
    /// # Errors
    /// A named file that does not serve is one: an audit that was asked to hold a chain against it cannot
    /// pass without.
    pub(crate) fn gather(
        data_dir: &Path,
        run: RunId,
        typed: &[Head],
        files: &[PathBuf],
        key: Option<PublicKey>,
    ) -> Result<Anchors> {
        let mut all = Vec::new();
        if !typed.is_empty() {
            let (from, heads) = ("--head".to_owned(), typed.to_vec());
            all.push(Told { from, signed_by: None, heads, remark: None });
        }
        let own = Key::existing(data_dir)?.map(|key| key.public());
        for file in files {
            let told = read(file, run, key.as_ref(), own.as_ref())?;
            if told.heads.is_empty() {
                bail!("{} holds no head of run {run}: name the file of this run", file.display());
            }
            all.push(told);
        }
        let kept_here = AnchorFile::path(data_dir, run);
        if kept_here.exists() && !files.contains(&kept_here) {
            // Signed here; a copy of somebody's data folder comes without the key, and is told about.
            all.push(match own.or(key) {
                None => Told {
                    from: kept_here.display().to_string(),
                    signed_by: None,
                    heads: Vec::new(),
                    remark: Some(
                        "not looked at: there is no key here, name its signer's with --key"
                            .to_owned(),
                    ),
                },
                Some(signer) => read(&kept_here, run, Some(&signer), None)?,
            });
        }
        Ok(Anchors(all))
    }

    /// Adds the head that an archive comes with; where nobody knows its signer, that is told.
    pub(crate) fn add_signed(
        &mut self,
        data_dir: &Path,
        run: RunId,
        file: &Path,
        key: Option<PublicKey>,
    ) -> Result<()> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let signer = Envelope::parse(&text)?.key_id();
        let own = Key::existing(data_dir)?.map(|key| key.public());
        // Somebody else's archive is audited without a word of theirs for it.
        let known = key.or(own.filter(|own| Some(own.id()) == signer));
        self.0.push(match known {
            Some(key) => read(file, run, Some(&key), None)?,
            None => Told {
                from: file.display().to_string(),
                signed_by: None,
                heads: Vec::new(),
                remark: Some(format!(
                    "not looked at: it claims to be signed by key {}; name that with --key",
                    signer.map_or("unknown".to_owned(), |id| id.short())
                )),
            },
        });
        Ok(())
    }

    /// Places whose hashes [`Anchors::hold`] must know.
    pub(crate) fn seqs(&self) -> BTreeSet<u64> {
        self.heads().map(|head| head.seq).collect()
    }

    fn heads(&self) -> impl Iterator<Item = &Head> {
        self.0.iter().flat_map(|told| &told.heads)
    }

    /// Holds a chain, of which the hashes at [`Anchors::seqs`] are given as far as it reaches, against all
    /// heads; the first that it does not pass through.
    pub(crate) fn hold(&self, hashes: &BTreeMap<u64, Digest>) -> (Vec<Held>, Option<Divergence>) {
        let holds = |head: &Head| hashes.get(&head.seq) == Some(&head.hash);
        let of = |told: &Told| Held {
            from: told.from.clone(),
            signed_by: told.signed_by,
            heads: told.heads.len() as u64,
            held: told.heads.iter().filter(|head| holds(head)).count() as u64,
            remark: told.remark.clone(),
        };
        let missed = self.0.iter().flat_map(|told| told.heads.iter().map(move |head| (told, head)));
        let first = missed.filter(|(_, head)| !holds(head)).min_by_key(|(_, head)| head.seq);
        let divergence = first.map(|(told, head)| {
            let before = self.heads().filter(|other| other.seq < head.seq && holds(other));
            let since = before.map(|other| other.seq).max();
            let since = since.map_or("anywhere up to here".to_owned(), |seq| {
                format!("after seq {seq}, the last head that holds, and up to here")
            });
            let found = hashes
                .get(&head.seq)
                .map_or(format!("the log ends before it: it was cut {since}"), |hash| {
                    format!("hash {hash}: the log was changed {since}, and its chain made anew")
                });
            Divergence {
                seq: head.seq,
                step: None,
                plugin: "log".to_owned(),
                what: "anchor".to_owned(),
                logged: format!("hash {} by {}", head.hash, told.from),
                found,
            }
        });
        (self.0.iter().map(of).collect(), divergence)
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Held { from, signed_by, heads, held, remark } = self;
        write!(f, "{held} of {heads} heads of {from} hold")?;
        if let Some(key) = signed_by {
            write!(f, ", signed by key {}", key.short())?;
        }
        remark.as_ref().map_or(Ok(()), |remark| write!(f, "; {remark}"))
    }
}

/// The heads of a run in a file of signed ones. The key is the one that is named, or else this machine's
/// own.
pub(crate) fn read(
    path: &Path,
    run: RunId,
    named: Option<&PublicKey>,
    own: Option<&PublicKey>,
) -> Result<Told> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| shown.to_string())?;
    let key = named.or(own).ok_or_else(|| {
        anyhow!("{shown} is signed and this machine has no key: name its signer's with --key")
    })?;
    let (mut heads, mut broken) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        // A machine that died as it wrote leaves half a line.
        let Ok(envelope) = Envelope::parse(line) else {
            broken.push(index + 1);
            continue;
        };
        let anchor: Anchor = envelope.read(key, SIGNED_HEAD).with_context(|| {
            format!("line {} of {shown}; name its signer's key with --key", index + 1)
        })?;
        if anchor.run == run {
            heads.push(anchor.head);
        }
    }
    let remark = (!broken.is_empty()).then(|| format!("lines that are not whole: {broken:?}"));
    Ok(Told { from: shown.to_string(), signed_by: Some(key.id()), heads, remark })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: u64) -> Head {
        Head { seq, hash: Digest::of(&[seq as u8]) }
    }

    fn hashes(seqs: impl IntoIterator<Item = u64>) -> BTreeMap<u64, Digest> {
        seqs.into_iter().map(|seq| (seq, head(seq).hash)).collect()
    }

    fn anchors(heads: &[u64]) -> Anchors {
        let heads = heads.iter().map(|seq| head(*seq)).collect();
        Anchors(vec![Told { from: "file".to_owned(), signed_by: None, heads, remark: None }])
    }

    #[test]
    fn chain_that_passes_through_every_head_holds() {
        let (held, divergence) = anchors(&[3, 9]).hold(&hashes([3, 9]));
        assert_eq!((held[0].heads, held[0].held), (2, 2));
        assert_eq!(divergence, None);
        assert_eq!(Anchors::default().hold(&hashes([])), (vec![], None));
    }

    #[test]
    fn change_lies_between_the_last_head_that_holds_and_the_first_that_does_not() {
        let mut changed = hashes([3, 9, 20]);
        changed.insert(9, Digest::ZERO);
        changed.insert(20, Digest::ZERO);
        let (held, divergence) = anchors(&[20, 3, 9]).hold(&changed);
        assert_eq!((held[0].heads, held[0].held), (3, 1));
        let divergence = divergence.unwrap();
        assert_eq!(divergence.seq, 9);
        assert!(divergence.found.contains("changed after seq 3"), "{divergence:?}");
        let (_, cut) = anchors(&[3, 9]).hold(&hashes([3]));
        assert!(cut.unwrap().found.contains("the log ends before it"));
    }

    #[test]
    fn heads_of_another_signer_are_refused_and_a_file_without_one_of_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let file = AnchorFile::open(folder.path(), RunId::SYSTEM).unwrap();
        file.add(&Anchor { run: RunId::SYSTEM, head: head(4), root: None }, None).unwrap();
        let path = AnchorFile::path(folder.path(), RunId::SYSTEM);
        let key = Key::of(folder.path()).unwrap().public();
        let gather = |data_dir: &Path, run, key| {
            Anchors::gather(data_dir, run, &[], std::slice::from_ref(&path), key)
        };
        let kept = Anchors::gather(folder.path(), RunId::SYSTEM, &[], &[], None).unwrap();
        assert_eq!(kept.seqs(), BTreeSet::from([4]));
        assert_eq!(gather(other.path(), RunId::SYSTEM, Some(key)).unwrap(), kept);
        let refusal = |gathered: Result<Anchors>| format!("{:#}", gathered.unwrap_err());
        let text = refusal(gather(other.path(), RunId::SYSTEM, None));
        assert!(text.contains("no key: name its signer's with --key"), "{text}");
        Key::of(other.path()).unwrap();
        let text = refusal(gather(other.path(), RunId::SYSTEM, None));
        assert!(text.contains("line 1 of") && text.contains("not signed by key"), "{text}");
        let elsewhere = RunId(uuid::Uuid::from_u128(7));
        let text = refusal(gather(folder.path(), elsewhere, None));
        assert!(text.contains("holds no head of run"), "{text}");
    }
}
