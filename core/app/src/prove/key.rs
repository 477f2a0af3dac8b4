//! The key that this machine signs with: Ed25519, made at first use, in a file that only its owner reads.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use hm_domain::id::Digest;

/// Its file in the data folder: 64 hexadecimal digits.
const FILE: &str = "signing-key";

/// Reads and writes of its owner alone.
const MODE: u32 = 0o600;

/// What signs.
pub(crate) struct Key(SigningKey);

/// What checks: it may be shown to anybody, and must come from somewhere else than what it checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey(VerifyingKey);

impl Key {
    /// Where the key of this data folder lies.
    pub(crate) fn path(data_dir: &Path) -> PathBuf {
        data_dir.join(FILE)
    }

    /// The key of this data folder; made where there is none.
    pub(crate) fn of(data_dir: &Path) -> Result<Key> {
        match Key::existing(data_dir)? {
            Some(key) => Ok(key),
            None => {
                make(&Key::path(data_dir))?;
                // Of two processes that make one in the same moment, one was first.
                Key::existing(data_dir)?.ok_or_else(|| {
                    anyhow!("{} vanished as it was made", Key::path(data_dir).display())
                })
            }
        }
    }

    /// The key of this data folder, if one was made.
    pub(crate) fn existing(data_dir: &Path) -> Result<Option<Key>> {
        let path = Key::path(data_dir);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            bail!(
                "{} is open to others with mode {mode:o}, at most {MODE:o} is trusted: chmod 600 it, or move it \
                 away and have another made",
                path.display()
            );
        }
        let seed: Digest = text.trim().parse().map_err(|_| {
            anyhow!(
                "{} does not hold 64 hexadecimal digits: move it away and have another made",
                path.display()
            )
        })?;
        Ok(Some(Key(SigningKey::from_bytes(&seed.0))))
    }

    /// Signs these bytes.
    pub(crate) fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }

    /// What checks its signatures.
    pub(crate) fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    #[cfg(test)]
    pub(crate) fn from_seed(seed: [u8; 32]) -> Key {
        Key(SigningKey::from_bytes(&seed))
    }
}

impl PublicKey {
    /// What signatures name it by: the SHA-256 of its 32 bytes.
    pub(crate) fn id(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }

    /// Whether it has signed these bytes.
    pub(crate) fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.0.verify_strict(bytes, &signature).is_ok())
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Digest(self.0.to_bytes()).fmt(f)
    }
}

impl FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> Result<PublicKey, String> {
        let refuse = || {
            format!("`{text}` is no public key: it must be the 64 digits that `hm key show` prints")
        };
        let bytes: Digest = text.parse().map_err(|_| refuse())?;
        VerifyingKey::from_bytes(&bytes.0).map(PublicKey).map_err(|_| refuse())
    }
}

/// The key that is named, or else this machine's own, which nobody makes by asking for it.
pub(crate) fn named_or_own(data_dir: &Path, named: Option<PublicKey>) -> Result<PublicKey> {
    let own = || Key::existing(data_dir).map(|key| key.map(|key| key.public()));
    let key = match named {
        Some(key) => Some(key),
        None => own()?,
    };
    key.ok_or_else(|| anyhow!("this machine has no key: name the signer's with --key"))
}

/// Writes a key of its own; one that is there already stays.
fn make(path: &Path) -> Result<()> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow!("no randomness for a key: {error}"))?;
    let part = path.with_extension(format!("{}.part", std::process::id()));
    let written = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&part).and_then(
        |mut file| {
            writeln!(file, "{}", Digest(seed))?;
            file.sync_all()
        },
    );
    // A link takes no place that is taken.
    let linked = written.and_then(|()| match fs::hard_link(&part, path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let removed = fs::remove_file(&part);
    linked.with_context(|| format!("cannot make the signing key {}", path.display()))?;
    removed.with_context(|| format!("cannot delete {}", part.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Key::existing(folder.path()).unwrap().is_none());
        let made = Key::of(folder.path()).unwrap().public();
        assert_eq!(Key::of(folder.path()).unwrap().public(), made);
        let path = Key::path(folder.path());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let refusal = Key::of(folder.path()).err().unwrap().to_string();
        assert!(refusal.contains("mode 644") && refusal.contains("chmod 600"), "{refusal}");
    }

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let seed: Digest =
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb".parse().unwrap();
        let key = Key::from_seed(seed.0);
        let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        assert_eq!(key.public().to_string(), public);
        let signature = key.sign(&[0x72]);
        let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
        let public: PublicKey = public.parse().unwrap();
        assert!(public.has_signed(&[0x72], &signature));
        assert!(!public.has_signed(&[0x73], &signature));
        assert!("3d40".parse::<PublicKey>().unwrap_err().contains("hm key show"));
    }
}
