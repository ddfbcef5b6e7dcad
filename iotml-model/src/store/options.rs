//! How a store is reached and whom it trusts.

use std::path::PathBuf;

use iotml_core::plugin::{ByteSize, HumanDuration};
use iotml_core::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

use super::StoreProperties;
use crate::precheck::Limits;

/// How a store is reached, what is kept of it, and whom it trusts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreOptions {
    /// What a bucket's client is to know, in the words of the crate object_store, such as `aws_endpoint`, `aws_region` or
    /// `allow_http`; they come before the variables of the same names in the environment.
    pub properties: StoreProperties,
    /// The longest that a connection to a bucket may take.
    pub connect_timeout: HumanDuration,
    /// The longest that one request to a bucket may take, the transfer of a model included.
    pub request_timeout: HumanDuration,
    /// How often a request to a bucket that failed is made again.
    pub max_retries: usize,
    /// No request is made again when so much time has passed since it was made first.
    pub retry_timeout: HumanDuration,
    /// A folder in which fetched models are kept; several processes may share it. Without one nothing is kept.
    pub cache: Option<PathBuf>,
    /// How much is kept there at most; what was not used for the longest time goes first.
    pub cache_bytes: ByteSize,
    /// The private key, ed25519 as PEM or base64, by which published manifests are signed.
    pub signing_key: Option<PathBuf>,
    /// Public keys, ed25519 as PEM or base64. A signature must be by one of them; a model without a signature passes, unless
    /// `require_signature` is set.
    pub trusted_keys: Vec<PathBuf>,
    /// Refuse models that are not signed.
    pub require_signature: bool,
    /// What an ONNX file may be at most.
    pub limits: Limits,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            properties: StoreProperties::default(),
            connect_timeout: HumanDuration::from_secs(5),
            request_timeout: HumanDuration::from_secs(30),
            max_retries: 3,
            retry_timeout: HumanDuration::from_secs(60),
            cache: None,
            cache_bytes: ByteSize(1 << 30),
            signing_key: None,
            trusted_keys: Vec::new(),
            require_signature: false,
            limits: Limits::default(),
        }
    }
}
