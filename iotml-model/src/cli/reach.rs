//! How the command line says which store is meant.

use std::path::PathBuf;

use iotml_core::cli::clap::{self, Args};
use iotml_core::plugin::ByteSize;

use super::{Failure, told};
use crate::precheck::Limits;
use crate::store::{Store, StoreOptions};

/// Names a store where nothing else does.
const ENVIRONMENT: &str = "IOTML_MODEL_STORE";

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Store")]
pub(super) struct Reach {
    /// The store: a folder, or a URL with file, s3, gs or az; credentials are taken from the environment. Without it the store of
    /// --config is meant, or else the one that the environment names [env: IOTML_MODEL_STORE]
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// What the client of a bucket is to know, such as aws_endpoint=https://host; for passwords use the environment,
    /// because others see the arguments of a process
    #[arg(short = 'X', long = "property", value_name = "NAME=VALUE", value_parser = property)]
    pub properties: Vec<(String, String)>,
    /// How large an ONNX file may be; default: what --config allows, or 64 MiB
    #[arg(long, value_name = "SIZE")]
    max_size: Option<ByteSize>,
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Trust")]
pub(super) struct Trusted {
    /// A public key, ed25519 as PEM or base64; a signature must be by one of those that are named
    #[arg(long = "trusted-key", value_name = "FILE")]
    pub keys: Vec<PathBuf>,
    /// Refuse what is not signed
    #[arg(long, requires = "keys")]
    pub require_signature: bool,
}

impl Reach {
    /// Opens the store, with the rest of its options made by `change`.
    pub fn open(&self, change: impl FnOnce(&mut StoreOptions)) -> Result<Store, Failure> {
        self.open_or(None, change)
    }

    /// The same; `configured` is the store of the pipeline, which is meant if no other is named.
    pub fn open_or(
        &self,
        configured: Option<&(String, StoreOptions)>,
        change: impl FnOnce(&mut StoreOptions),
    ) -> Result<Store, Failure> {
        let (url, mut options) = match (&self.store, configured) {
            (Some(url), Some((same, options))) if url == same => (url.clone(), options.clone()),
            (Some(url), _) => (url.clone(), StoreOptions::default()),
            (None, Some((url, options))) => (url.clone(), options.clone()),
            (None, None) => match from_environment(ENVIRONMENT) {
                Some(url) => (url, StoreOptions::default()),
                None => return Err(format!("no store is named: use --store, or set {ENVIRONMENT}")),
            },
        };
        for (name, value) in &self.properties {
            options.properties.insert(name.as_str(), value);
        }
        options.limits = self.limits(&options.limits);
        change(&mut options);
        Store::open(&url, &options).map_err(told)
    }

    /// What an ONNX file may be at most: what is `configured`, but of the size that was asked for, if one was.
    pub fn limits(&self, configured: &Limits) -> Limits {
        let max_bytes = self.max_size.map_or(configured.max_bytes, |size| size.0 as u64);
        Limits { max_bytes, ..configured.clone() }
    }
}

/// What the environment says, if it says anything. It is asked apart from the flag, which comes before a configuration, as the
/// environment does not.
pub(super) fn from_environment(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it like aws_region=eu-central-1")?;
    Ok((name.trim().to_owned(), value.to_owned()))
}
