//! `hm key`: what this machine signs with, and whether something was signed.

use std::path::Path;

use anyhow::{Context, Result};

use crate::cli::KeyCommand;
use crate::prove::dsse::Envelope;
use crate::prove::key::{Key, PublicKey, named_or_own};
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
        KeyCommand::Verify { file, key } => verify(&file, &named_or_own(&workplace.data_dir, key)?),
    }
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
