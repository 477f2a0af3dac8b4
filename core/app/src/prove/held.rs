//! What an audit holds a chain against: heads that were kept elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hm_domain::audit::Divergence;
use hm_domain::id::{Digest, RunId};
use serde::Serialize;

use crate::prove::anchors::{Anchor, AnchorFile, Head, SIGNED_HEAD};
use crate::prove::dsse::Envelope;
use crate::prove::key::{Key, PublicKey};
use crate::steer::audit::source::Source;

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

impl Told {
    fn of(path: &Path, signed_by: Option<Digest>, heads: Vec<Head>) -> Told {
        Told { from: path.display().to_string(), signed_by, heads, remark: None }
    }

    fn unread(path: &Path, why: String) -> Told {
        Told { remark: Some(why), ..Told::of(path, None, Vec::new()) }
    }
}

/// The keys that lines are checked with: the one that was named, and this machine's own.
fn known(data_dir: &Path, named: Option<PublicKey>) -> Result<Vec<PublicKey>> {
    let own = Key::existing(data_dir)?.map(|key| key.public());
    Ok(named.into_iter().chain(own.filter(|own| Some(*own) != named)).collect())
}

/// Reads a file that must serve.
fn read_named(file: &Path, run: RunId, known: &[PublicKey]) -> Result<Vec<Told>> {
    let shown = file.display();
    if known.is_empty() {
        bail!("{shown} is signed and this machine has no key: name its signer's with --key");
    }
    let told = read(file, run, known)?;
    if told.iter().any(|one| !one.heads.is_empty()) {
        return Ok(told);
    }
    match &told[0].remark {
        Some(remark) => bail!("{shown} holds no head of run {run} that serves: {remark}"),
        None => bail!("{shown} holds no head of run {run}: name the file of this run"),
    }
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
        let known = known(data_dir, key)?;
        for file in files {
            all.extend(read_named(file, run, &known)?);
        }
        let kept_here = AnchorFile::path(data_dir, run);
        if kept_here.exists() && !files.contains(&kept_here) {
            // Signed here; a copy of somebody's data folder comes without the key, and is told about.
            if known.is_empty() {
                let why = "not looked at: there is no key here, name its signer's with --key";
                all.push(Told::unread(&kept_here, why.to_owned()));
            } else {
                all.extend(read(&kept_here, run, &known)?);
            }
        }
        Ok(Anchors(all))
    }

    /// Adds the head that an archive comes with; where nobody knows its signer, that is told.
    ///
    /// # Errors
    /// Where another than the named key has signed it, or it is of another run: it is all that binds what an
    /// archive calls its run to what was signed.
    pub(crate) fn add_signed(
        &mut self,
        data_dir: &Path,
        run: RunId,
        file: &Path,
        key: Option<PublicKey>,
    ) -> Result<()> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let signer = Envelope::parse(&text)?.key_id();
        let known = known(data_dir, key)?;
        // Somebody else's archive is audited without a word of theirs for it, unless it was asked for.
        if key.is_none() && !known.iter().any(|key| Some(key.id()) == signer) {
            let claimed = signer.map_or("unknown".to_owned(), |id| id.short());
            let why = format!(
                "not looked at: it claims to be signed by key {claimed}; name that with --key"
            );
            self.0.push(Told::unread(file, why));
        } else {
            let told = read_named(file, run, &known).context(
                "an archive does not serve: its signed head must be of the run that its archive.json \
                 names, and of a key that is known here",
            )?;
            self.0.extend(told);
        }
        Ok(())
    }

    /// Refuses to sign anything of a log in the database that does not pass through the heads which this
    /// machine has kept of it: whoever has changed the one is not to get the other's word for it.
    pub(crate) fn allow_signing(data_dir: &Path, source: &dyn Source) -> Result<()> {
        let run = source.run();
        if !source.holds(run)? {
            return Ok(());
        }
        let kept = Anchors::gather(data_dir, run, &[], &[], None)?;
        let mut hashes = BTreeMap::new();
        for seq in kept.seqs() {
            hashes.extend(source.event_of(run, seq)?.map(|stored| (seq, stored.hash)));
        }
        match kept.hold(&hashes).1 {
            None => Ok(()),
            Some(Divergence { seq, logged, found, .. }) => bail!(
                "nothing of this log is signed: at seq {seq} it should have {logged}, and it has {found}"
            ),
        }
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
            let found = hashes.get(&head.seq).map_or(
                format!("the log ends before it: it was cut {since}, or is a copy from before"),
                |hash| format!("hash {hash}: the log was changed {since}, and its chain made anew"),
            );
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
        match heads {
            0 => write!(f, "{from} holds no head of this run: it tells nothing")?,
            _ => write!(f, "{held} of {heads} heads of {from} hold")?,
        }
        if let Some(key) = signed_by {
            write!(f, ", signed by key {}", key.short())?;
        }
        remark.as_ref().map_or(Ok(()), |remark| write!(f, "; {remark}"))
    }
}

/// The heads of a run in a file of signed ones, by signer; one entry without heads where there are none. A
/// line is checked with the key that it names, if that is a known one: a machine whose key was lost goes on
/// with another, and its files then hold lines of both.
pub(crate) fn read(path: &Path, run: RunId, known: &[PublicKey]) -> Result<Vec<Told>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| shown.to_string())?;
    let mut by_signer = vec![Vec::new(); known.len()];
    let (mut others, mut broken) = (0, Vec::new());
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        // A machine that died as it wrote leaves half a line.
        let Ok(envelope) = Envelope::parse(line) else {
            broken.push(index + 1);
            continue;
        };
        let signer = envelope.key_id();
        let Some(place) = known.iter().position(|key| Some(key.id()) == signer) else {
            others += 1;
            continue;
        };
        let anchor: Anchor = envelope
            .read(&known[place], SIGNED_HEAD)
            .with_context(|| format!("line {} of {shown}, which names that key", index + 1))?;
        if anchor.run == run {
            by_signer[place].push(anchor.head);
        }
    }
    let signed = known.iter().zip(by_signer).filter(|(_, heads)| !heads.is_empty());
    let mut all: Vec<Told> =
        signed.map(|(key, heads)| Told::of(path, Some(key.id()), heads)).collect();
    if all.is_empty() {
        all.push(Told::of(path, None, Vec::new()));
    }
    all[0].remark = remark(others, &broken);
    Ok(all)
}

/// What could not be used of a file.
fn remark(others: u64, broken: &[usize]) -> Option<String> {
    let by_others = (others > 0).then(|| {
        format!(
            "{others} heads signed by other keys were not looked at: name their signer's with --key"
        )
    });
    let halves = (!broken.is_empty()).then(|| format!("lines that are not whole: {broken:?}"));
    let remarks: Vec<String> = by_others.into_iter().chain(halves).collect();
    (!remarks.is_empty()).then(|| remarks.join("; "))
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
        assert!(text.contains("1 heads signed by other keys were not looked at"), "{text}");
        let whole = std::fs::read_to_string(&path).unwrap();
        let mut changed: serde_json::Value = serde_json::from_str(&whole).unwrap();
        changed["signatures"][0]["sig"] = "AAAA".into();
        std::fs::write(&path, changed.to_string()).unwrap();
        let text = refusal(gather(folder.path(), RunId::SYSTEM, None));
        assert!(text.contains("line 1 of") && text.contains("not signed by key"), "{text}");
        std::fs::write(&path, whole).unwrap();
        let elsewhere = RunId(uuid::Uuid::from_u128(7));
        let text = refusal(gather(folder.path(), elsewhere, None));
        assert!(text.contains("holds no head of run"), "{text}");
    }

    fn signed_at(folder: &Path, seq: u64) -> PublicKey {
        let file = AnchorFile::open(folder, RunId::SYSTEM).unwrap();
        file.add(&Anchor { run: RunId::SYSTEM, head: head(seq), root: None }, None).unwrap();
        Key::of(folder).unwrap().public()
    }

    #[test]
    fn file_that_two_keys_have_signed_is_read_with_each_that_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let old = signed_at(folder.path(), 3);
        std::fs::remove_file(Key::path(folder.path())).unwrap();
        let new = signed_at(folder.path(), 7);
        let gathered = |key| Anchors::gather(folder.path(), RunId::SYSTEM, &[], &[], key).unwrap();
        let own = gathered(None);
        assert_eq!(own.seqs(), BTreeSet::from([7]));
        let remark = own.0[0].remark.clone().unwrap();
        assert!(remark.contains("1 heads signed by other keys were not looked at"), "{remark}");
        let both = gathered(Some(old));
        assert_eq!(both.seqs(), BTreeSet::from([3, 7]));
        let signers: Vec<_> = both.0.iter().map(|told| told.signed_by.unwrap()).collect();
        assert_eq!(signers, [old.id(), new.id()]);
        assert!(both.0.iter().all(|told| told.remark.is_none()));
    }

    #[test]
    fn archive_whose_signed_head_is_of_another_run_or_signer_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let own = signed_at(folder.path(), 4);
        let signed = AnchorFile::path(folder.path(), RunId::SYSTEM);
        let add = |run, key| Anchors::default().add_signed(folder.path(), run, &signed, key);
        add(RunId::SYSTEM, None).unwrap();
        add(RunId::SYSTEM, Some(own)).unwrap();
        let elsewhere = RunId(uuid::Uuid::from_u128(7));
        let text = format!("{:#}", add(elsewhere, Some(own)).unwrap_err());
        assert!(text.contains("its signed head must be of the run"), "{text}");
        assert!(add(elsewhere, None).is_err());
        std::fs::remove_file(Key::path(folder.path())).unwrap();
        let other = Key::from_seed([9; 32]).public();
        let text = format!("{:#}", add(RunId::SYSTEM, Some(other)).unwrap_err());
        assert!(text.contains("signed by other keys"), "{text}");
        add(RunId::SYSTEM, None).unwrap();
    }
}
