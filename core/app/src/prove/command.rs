//! `hm key`: what this machine signs with, and whether something was signed.

use std::path::Path;

use anyhow::{Context, Result, anyhow};

use crate::cli::KeyCommand;
use crate::prove::dsse::Envelope;
use crate::prove::key::{Key, PublicKey};
use crate::workplace::Workplace;

pub(crate) fn run(workplace: &Workplace, command: KeyCommand) -> Result<u8> {
    match command {
        KeyCommand::Show { json } => {
            workplace.make_data_dir()?;
            let public = Key::of(&workplace.data_dir)?.public();
            let (key, id) = (public.to_string(), public.id());
            if json {
                println!("{}", serde_json::json!({"public_key": key, "key_id": id}));
            } else {
                println!("public key (Ed25519): {key}\nkey id:               {id}");
            }
            Ok(0)
        }
        KeyCommand::Verify { file, key } => {
            let key = match key {
                Some(key) => key,
                None => own(workplace)?,
            };
            verify(&file, &key)
        }
    }
}

/// This machine's own key, which nobody makes by asking for it.
fn own(workplace: &Workplace) -> Result<PublicKey> {
    let key = Key::existing(&workplace.data_dir)?;
    key.map(|key| key.public())
        .ok_or_else(|| anyhow!("this machine has no key: name the signer's with --key"))
}

/// Prints what the key has signed.
fn verify(file: &Path, key: &PublicKey) -> Result<u8> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    // One envelope of any layout, or one on each line.
    let whole = Envelope::parse(&text).map(|envelope| vec![envelope]);
    let envelopes = whole.or_else(|_| text.lines().map(Envelope::parse).collect::<Result<_>>());
    for envelope in envelopes.with_context(|| file.display().to_string())? {
        match envelope.open(key) {
            Ok(payload) => {
                println!("signed by key {}: {}", key.id(), envelope.payload_type);
                println!("{}", String::from_utf8_lossy(&payload));
            }
            Err(error) => {
                let claims = envelope.key_id().map_or("nobody".to_owned(), |id| id.to_string());
                eprintln!("hm: {}: {error}; it claims to be signed by {claims}", file.display());
                return Ok(1);
            }
        }
    }
    Ok(0)
}
