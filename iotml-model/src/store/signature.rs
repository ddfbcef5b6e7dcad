//! Signatures of manifests: ed25519 over the bytes of `manifest.json`, as base64 beside it.
//!
//! Keys are files as `openssl genpkey -algorithm ed25519` makes them, or 32 bytes as base64.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

use super::{StoreError, StoreOptions};

/// What stands before the 32 bytes of an ed25519 key in its SubjectPublicKeyInfo (RFC 8410).
const PUBLIC_KEY_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// No file with a key comes near this.
const MAX_KEY_BYTES: u64 = 64 << 10;

/// Why a key cannot be used; nothing of its content is told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the key {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The content is no such key.
    #[error("{place} is no {what} key of ed25519: PEM, as `{command}` writes it, or 32 bytes as base64")]
    Form {
        /// The file, or what was given instead.
        place: String,
        /// `private` or `public`.
        what: &'static str,
        /// How to make one.
        command: &'static str,
    },
}

/// A private key that signs manifests.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Reads a PEM file (PKCS #8), or one with 32 bytes as base64.
    ///
    /// # Errors
    /// [`KeyError`] if there is none.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        Self::from_text(&read(path)?, &path.display().to_string())
    }

    /// Takes what such a file holds; `place` stands in errors.
    ///
    /// # Errors
    /// [`KeyError::Form`] if it is no private key.
    pub fn from_text(text: &[u8], place: &str) -> Result<Self, KeyError> {
        let key = match PrivatePkcs8KeyDer::from_pem_slice(text) {
            Ok(der) => Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok(),
            Err(_) => bytes(text).and_then(|seed| Ed25519KeyPair::from_seed_unchecked(&seed).ok()),
        };
        let command = "openssl genpkey -algorithm ed25519";
        key.map(SigningKey).ok_or_else(|| KeyError::Form { place: place.to_owned(), what: "private", command })
    }

    /// The public half, by which others check.
    pub fn verifying_key(&self) -> VerifyingKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.public_key().as_ref());
        VerifyingKey(key)
    }

    /// The signature of `manifest`, as it stands in the store.
    pub(super) fn sign(&self, manifest: &[u8]) -> String {
        STANDARD.encode(self.0.sign(manifest))
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

/// A public key that is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    /// Reads a PEM file (SubjectPublicKeyInfo), or one with 32 bytes as base64.
    ///
    /// # Errors
    /// [`KeyError`] if there is none.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        Self::from_text(&read(path)?, &path.display().to_string())
    }

    /// Takes what such a file holds; `place` stands in errors.
    ///
    /// # Errors
    /// [`KeyError::Form`] if it is no public key.
    pub fn from_text(text: &[u8], place: &str) -> Result<Self, KeyError> {
        let key = match SubjectPublicKeyInfoDer::from_pem_slice(text) {
            Ok(der) => der.as_ref().strip_prefix(&PUBLIC_KEY_HEAD).and_then(|key| key.try_into().ok()),
            Err(_) => bytes(text),
        };
        let command = "openssl pkey -pubout";
        key.map(VerifyingKey).ok_or_else(|| KeyError::Form { place: place.to_owned(), what: "public", command })
    }

    /// The key as base64, which [`from_text`](Self::from_text) reads.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    fn verifies(&self, manifest: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(manifest, signature).is_ok()
    }
}

/// Whose signatures count, and whether one is needed.
#[derive(Debug, Clone, Default)]
pub(super) struct Trust {
    keys: Vec<VerifyingKey>,
    is_required: bool,
}

/// What a signature, or that there is none, means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    Missing,
    Bad,
}

impl Trust {
    pub(super) fn read(options: &StoreOptions) -> Result<Self, StoreError> {
        let keys = options.trusted_keys.iter().map(|path| VerifyingKey::read(path)).collect::<Result<Vec<_>, _>>()?;
        if options.require_signature && keys.is_empty() {
            let reason = "require_signature is set, but trusted_keys names no key".to_owned();
            return Err(StoreError::Options { reason });
        }
        Ok(Trust { keys, is_required: options.require_signature })
    }

    /// Whether signatures are looked at.
    pub(super) fn is_asked(&self) -> bool {
        !self.keys.is_empty()
    }

    pub(super) fn n_keys(&self) -> usize {
        self.keys.len()
    }

    /// Judges the signature that stands beside `manifest`.
    pub(super) fn judge(&self, manifest: &[u8], signature: Option<&[u8]>) -> Verdict {
        match signature {
            None if self.is_required => Verdict::Missing,
            Some(signature) if self.is_asked() => {
                let signature = STANDARD.decode(signature.trim_ascii()).unwrap_or_default();
                if self.keys.iter().any(|key| key.verifies(manifest, &signature)) {
                    Verdict::Fine
                } else {
                    Verdict::Bad
                }
            }
            _ => Verdict::Fine,
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    use std::io::Read as _;
    let failed = |source| KeyError::Read { path: path.to_owned(), source };
    let mut text = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(MAX_KEY_BYTES).read_to_end(&mut text)).map_err(failed)?;
    Ok(text)
}

/// 32 bytes as base64.
fn bytes(text: &[u8]) -> Option<[u8; 32]> {
    STANDARD.decode(text.trim_ascii()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`.
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEICe5lz4ezqDDgEqWhavdUONzQ5Mrr1saY6xbJG/C8Mbk\n-----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAJ+Md98nlRngIyPQIEWmGG30vETVW3kekdjl2vuZQPuA=\n-----END PUBLIC KEY-----\n";
    /// Of the bytes `{}`, by `openssl pkeyutl -sign -rawin`.
    const SIGNATURE: &str = "khEdHopGmseKq0WUqda5ZYwy1OItYf3zvu6K9MbEphsL6HJIe1gfkUbh3uHrafXMS4WpgGO/CWd7T5PXUjHsCg==";

    fn trust(is_required: bool) -> Trust {
        Trust { keys: vec![VerifyingKey::from_text(PUBLIC.as_bytes(), "test").unwrap()], is_required }
    }

    #[test]
    fn keys_and_signatures_are_those_of_openssl() {
        let key = SigningKey::from_text(PRIVATE.as_bytes(), "test").unwrap();
        assert_eq!(key.verifying_key(), VerifyingKey::from_text(PUBLIC.as_bytes(), "test").unwrap());
        assert_eq!(key.sign(b"{}"), SIGNATURE);
        assert_eq!(trust(true).judge(b"{}", Some(SIGNATURE.as_bytes())), Verdict::Fine);
    }

    #[test]
    fn the_same_keys_as_base64() {
        let public = VerifyingKey::from_text(PUBLIC.as_bytes(), "test").unwrap();
        let text = format!("{}\n", public.to_base64());
        assert_eq!(VerifyingKey::from_text(text.as_bytes(), "test").unwrap(), public);
        let seed = STANDARD.encode([7; 32]);
        let key = SigningKey::from_text(seed.as_bytes(), "test").unwrap();
        assert_ne!(key.verifying_key(), public);
    }

    #[test]
    fn what_is_changed_or_by_somebody_else_is_bad() {
        let trust = trust(false);
        assert_eq!(trust.judge(b"{ }", Some(SIGNATURE.as_bytes())), Verdict::Bad);
        let other = SigningKey::from_text(STANDARD.encode([7; 32]).as_bytes(), "test").unwrap();
        assert_eq!(trust.judge(b"{}", Some(other.sign(b"{}").as_bytes())), Verdict::Bad);
        for broken in ["", "====", "AAAA", &SIGNATURE[..20]] {
            assert_eq!(trust.judge(b"{}", Some(broken.as_bytes())), Verdict::Bad, "{broken}");
        }
    }

    #[test]
    fn a_missing_signature_matters_only_if_one_is_required() {
        assert_eq!(trust(true).judge(b"{}", None), Verdict::Missing);
        assert_eq!(trust(false).judge(b"{}", None), Verdict::Fine);
        assert_eq!(Trust::default().judge(b"{}", Some(b"whatever")), Verdict::Fine);
    }

    #[test]
    fn inv_10_a_wrong_key_is_not_told() {
        let error = SigningKey::from_text(b"c2VjcmV0LXNlZWQ=", "key.pem").unwrap_err();
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(text.contains("key.pem") && !text.contains("c2VjcmV0"), "{text}");
        }
        let key = SigningKey::from_text(PRIVATE.as_bytes(), "test").unwrap();
        assert_eq!(format!("{key:?}"), "SigningKey(***)");
    }
}
