//! DSSE envelopes: the one form in which this program signs anything. The signature covers the type of
//! what is signed beside its bytes, and the bytes that were checked are the bytes that are read.

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hm_domain::id::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::prove::key::{Key, PublicKey};

/// Bytes, what they are, and who has signed both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Envelope {
    #[serde(rename = "payloadType")]
    pub(crate) payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Signature {
    keyid: String,
    sig: String,
}

impl Envelope {
    /// Signs `content` as JSON.
    pub(crate) fn sign(
        key: &Key,
        payload_type: &str,
        content: &impl Serialize,
    ) -> Result<Envelope> {
        let payload = serde_json::to_vec(content)?;
        let sig = STANDARD.encode(key.sign(&signed_bytes(payload_type, &payload)));
        let keyid = key.public().id().to_string();
        Ok(Envelope {
            payload_type: payload_type.to_owned(),
            payload: STANDARD.encode(payload),
            signatures: vec![Signature { keyid, sig }],
        })
    }

    /// Reads an envelope.
    pub(crate) fn parse(text: &str) -> Result<Envelope> {
        serde_json::from_str(text)
            .map_err(|error| anyhow!("this is no signed envelope (DSSE): {error}"))
    }

    /// Who says to have signed it: a hint, by which a key is found.
    pub(crate) fn key_id(&self) -> Option<Digest> {
        self.signatures.first()?.keyid.parse().ok()
    }

    /// What `key` has signed, if it has.
    pub(crate) fn open(&self, key: &PublicKey) -> Result<Vec<u8>> {
        let payload = STANDARD.decode(&self.payload).context("its payload is not base64")?;
        let signed = signed_bytes(&self.payload_type, &payload);
        let of_key = |signature: &Signature| {
            STANDARD.decode(&signature.sig).is_ok_and(|bytes| key.has_signed(&signed, &bytes))
        };
        if !self.signatures.iter().any(of_key) {
            bail!("it is not signed by key {}", key.id().short());
        }
        Ok(payload)
    }

    /// What `key` has signed, as the type that it must be of.
    pub(crate) fn read<T: DeserializeOwned>(&self, key: &PublicKey, due: &str) -> Result<T> {
        let payload = self.open(key)?;
        if self.payload_type != due {
            bail!("it holds {}, not {due}", self.payload_type);
        }
        serde_json::from_slice(&payload).with_context(|| format!("it holds no {due}"))
    }
}

/// DSSE's pre-authentication encoding.
fn signed_bytes(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let (type_bytes, payload_bytes) = (payload_type.len(), payload.len());
    let mut bytes = format!("DSSEv1 {type_bytes} {payload_type} {payload_bytes} ").into_bytes();
    bytes.extend(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector that the DSSE protocol prints.
    #[test]
    fn encoding_is_the_standards() {
        assert_eq!(
            signed_bytes("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
        // Lengths count bytes, not characters.
        assert_eq!(signed_bytes("\u{e9}", b""), "DSSEv1 2 \u{e9} 0 ".as_bytes());
    }

    #[test]
    fn only_what_the_key_signed_is_read_and_only_as_what_it_is() {
        let (key, other) = (Key::from_seed([1; 32]), Key::from_seed([2; 32]));
        let envelope = Envelope::sign(&key, "application/a+json", &[1, 2]).unwrap();
        let text = serde_json::to_string(&envelope).unwrap();
        let envelope = Envelope::parse(&text).unwrap();
        let read = envelope.read::<Vec<u8>>(&key.public(), "application/a+json");
        assert_eq!(read.unwrap(), [1, 2]);
        let refusal = |read: Result<Vec<u8>>| read.unwrap_err().to_string();
        let said = refusal(envelope.read(&other.public(), "application/a+json"));
        assert!(said.contains("not signed by key"), "{said}");
        let said = refusal(envelope.read(&key.public(), "application/b+json"));
        assert!(said.contains("it holds application/a+json"), "{said}");
        let changed = Envelope { payload: STANDARD.encode("[1,3]"), ..envelope.clone() };
        assert!(changed.open(&key.public()).is_err());
        let retyped = Envelope { payload_type: "application/b+json".to_owned(), ..envelope };
        assert!(retyped.open(&key.public()).is_err(), "the type is signed too");
    }
}
