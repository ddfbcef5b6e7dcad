//! What can go wrong between a store and us.

use std::path::PathBuf;

use iotml_core::error::Class;
use iotml_core::model::Digest;

use super::{Inner, KeyError};
use crate::manifest::ManifestError;
use crate::precheck::Refusal;

/// Why a store cannot do what it was asked for. No text holds a credential.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There can be no store at this address.
    #[error("{url:?} is no address of a model store: {reason}")]
    Url {
        /// The address.
        url: String,
        /// Why.
        reason: String,
    },
    /// A property of the store's client is not known or has a wrong value.
    #[error("property {name:?} of the model store: {reason}")]
    Property {
        /// The property.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Options contradict each other, or something is missing.
    #[error("options of the model store: {reason}")]
    Options {
        /// What is wrong.
        reason: String,
    },
    /// A key for signatures cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A name or a version cannot be in a store.
    #[error(
        "{found:?} cannot be the {what} of a model in a store: 1 to 128 letters, digits, dots, dashes and underlines, the first a letter or a digit"
    )]
    Name {
        /// `name` or `version`.
        what: &'static str,
        /// What it was.
        found: String,
    },
    /// An address is not in this store.
    #[error("{uri:?} is not the address of a model in the store {store}, which is the only one that is asked")]
    Elsewhere {
        /// The address.
        uri: String,
        /// The store.
        store: String,
    },
    /// A model to be published cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A model to be published is one that no worker would load.
    #[error("model {name} {version} is refused: {source}")]
    Refused {
        /// The model's name.
        name: String,
        /// Its version.
        version: String,
        /// Why.
        #[source]
        source: Box<Refusal>,
    },
    /// A manifest cannot be used.
    #[error("{source} ({place})")]
    Manifest {
        /// Where it is.
        place: String,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// A manifest is of another model than the one whose place it has.
    #[error("the manifest in {place} is of {name} {version}: it was moved there or replaced; publish the model anew")]
    Misplaced {
        /// Where it is.
        place: String,
        /// The name in it.
        name: String,
        /// The version in it.
        version: String,
    },
    /// The store cannot be reached, or does not answer as it should; it may do so later.
    #[error("cannot {action} {object}: {reason}")]
    Unavailable {
        /// `read`, `write` or `list`.
        action: &'static str,
        /// What of the store.
        object: String,
        /// What the store or its client says.
        reason: String,
    },
    /// The store does not let us.
    #[error("cannot {action} {object}: access is denied; check the credentials and what they allow ({reason})")]
    Denied {
        /// `read`, `write` or `list`.
        action: &'static str,
        /// What of the store.
        object: String,
        /// What the store or its client says.
        reason: String,
    },
    /// There is no such version.
    #[error("there is no model {name} {version} in {store}: `iotml model list` shows what there is")]
    NotFound {
        /// The model's name.
        name: String,
        /// Its version.
        version: String,
        /// The store.
        store: String,
    },
    /// The version exists with another content.
    #[error(
        "model {name} {version} is in {store} already, with another content; versions never change, so publish under another version"
    )]
    Exists {
        /// The model's name.
        name: String,
        /// Its version.
        version: String,
        /// The store.
        store: String,
    },
    /// Another publisher has begun this version with another content, and has not ended.
    #[error(
        "{object} is there with another content, but its version has no manifest: another publisher is at work or has died; publish under another version, or delete the object if nobody is at work"
    )]
    Unfinished {
        /// The object that is in the way.
        object: String,
    },
    /// An object is not what its version says.
    #[error(
        "{object} has the SHA-256 {found} ({n_bytes} bytes), but its manifest says {expected}: it is damaged or replaced and is not used; publish the model under another version"
    )]
    Digest {
        /// The object.
        object: String,
        /// The digest that it should have.
        expected: Digest,
        /// The digest that it has.
        found: Digest,
        /// How many bytes it has.
        n_bytes: usize,
    },
    /// The version has another model than the one that is meant.
    #[error(
        "the model in {uri} has the SHA-256 {found}, but {expected} was announced: another model is meant, perhaps of another store; announce this one anew"
    )]
    Announced {
        /// The version.
        uri: String,
        /// The digest that is meant.
        expected: Digest,
        /// The digest of what is there.
        found: Digest,
    },
    /// The manifest names no digest of its model, so it was not put there by a store.
    #[error("{object} has no model_sha256, so it was not published: put the model there by `iotml model publish`")]
    NoDigest {
        /// The manifest.
        object: String,
    },
    /// An object is larger than it may be.
    #[error("{object} has {n_bytes} bytes, but at most {limit} are allowed")]
    TooLarge {
        /// The object.
        object: String,
        /// Its size.
        n_bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A version was published without one of its objects, or has lost it.
    #[error(
        "{object} is missing, though its version has a manifest: it was deleted; publish the model under another version"
    )]
    Incomplete {
        /// The object.
        object: String,
    },
    /// There is no signature and one is demanded.
    #[error(
        "model {name} {version} in {store} is not signed, and require_signature is set: publish it with the private key of a trusted key"
    )]
    Unsigned {
        /// The model's name.
        name: String,
        /// Its version.
        version: String,
        /// The store.
        store: String,
    },
    /// The signature is by nobody who is trusted, or of something else.
    #[error(
        "{object} is not the signature of this manifest by one of the {n_keys} trusted keys: the manifest was changed, or who signed it is not trusted"
    )]
    BadSignature {
        /// The signature.
        object: String,
        /// How many keys are trusted.
        n_keys: usize,
    },
    /// The runtime ends, so nothing is fetched any more.
    #[error("the program is ending")]
    Ended,
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn class(&self) -> Class {
        match self {
            StoreError::Unavailable { .. } => Class::Retryable,
            _ => Class::Fatal,
        }
    }
}

/// How much of what a store says is told.
const MAX_REASON: usize = 400;

impl Inner {
    /// The full address of an object, for messages.
    pub(super) fn address(&self, path: &object_store::path::Path) -> String {
        let inside = path.prefix_match(&self.prefix).map(|parts| {
            let parts: Vec<_> = parts.map(|part| part.as_ref().to_owned()).collect();
            parts.join("/")
        });
        format!("{}/{}", self.url, inside.unwrap_or_else(|| path.to_string()))
    }

    /// What an error of the store means. Its chain is put into words here and dropped, since it may hold credentials.
    pub(super) fn failed(
        &self,
        action: &'static str,
        path: &object_store::path::Path,
        error: &object_store::Error,
    ) -> StoreError {
        let object = self.address(path);
        let reason = self.reason(error);
        match error {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                StoreError::Denied { action, object, reason }
            }
            // A list that is denied comes as any other failure.
            _ if ["401 Unauthorized", "403 Forbidden"].iter().any(|status| reason.contains(status)) => {
                StoreError::Denied { action, object, reason }
            }
            _ => StoreError::Unavailable { action, object, reason },
        }
    }

    fn reason(&self, error: &object_store::Error) -> String {
        use object_store::Error as E;
        let text = match error {
            E::Generic { source, .. }
            | E::NotFound { source, .. }
            | E::PermissionDenied { source, .. }
            | E::Unauthenticated { source, .. } => iotml_core::error::report(source.as_ref()),
            other => iotml_core::error::report(other),
        };
        let text = self.secrets.scrub(&text).into_owned();
        let text = without_times(text.split_whitespace().map(without_query)).join(" ");
        match text.char_indices().nth(MAX_REASON) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text,
        }
    }
}

/// Words without those that say how long a request took: whoever hears of the same trouble twice is to see that it is the same.
fn without_times<'a>(words: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut kept: Vec<&str> = Vec::new();
    for word in words {
        let number = word.trim_end_matches(',').strip_suffix('s').map(|time| time.trim_end_matches(['m', 'µ', 'n']));
        let is_time = number.is_some_and(|number| number.parse::<f64>().is_ok());
        if is_time && kept.last() == Some(&"in") {
            kept.pop();
        } else {
            kept.push(word);
        }
    }
    kept
}

/// A word without what stands behind `?` if it is a URL: signatures may stand there.
fn without_query(word: &str) -> &str {
    match word.split_once('?') {
        Some((before, _)) if before.contains("://") => before,
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_request_took_is_left_out_and_nothing_else() {
        let says = |text: &str| without_times(text.split_whitespace()).join(" ");
        let told = "Error performing GET http://h/m in 132.2ms, after 1 retries, retry_timeout: 2s - 500";
        assert_eq!(says(told), "Error performing GET http://h/m after 1 retries, retry_timeout: 2s - 500");
        assert_eq!(says("GET m in 1.1s - timed out in class s"), "GET m - timed out in class s");
    }
}
