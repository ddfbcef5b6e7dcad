//! `model publish`: the store first, the announcement second.

use std::path::PathBuf;
use std::sync::Arc;

use iotml_core::cli::clap::{self, Args};
use iotml_core::model::{Announcement, ModelSet, Place, Rollout};
use iotml_core::plugin::Registry;
use tokio::runtime::Runtime;

use super::board::{Board, in_force};
use super::reach::Reach;
use super::{Failure, Format, told};
use crate::ModelError;
use crate::manifest::ManifestSource;
use crate::precheck::Limits;
use crate::store::{Draft, Stored};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The ONNX file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// A JSON file with the manifest, in the place of the one in the model's metadata or beside it
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The name to publish it under, in the place of the manifest's
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The version to publish it as, in the place of the manifest's
    #[arg(long = "version", value_name = "VERSION")]
    published_version: Option<String>,
    /// A private key, ed25519 as PEM or base64, to sign it with; default: the signing_key of --config
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,
    /// Do not load it into an engine, as is done to see that its golden rows come out
    #[arg(long)]
    no_engine: bool,
    /// Which rows it scores: full, canary=PERCENT, weight=WEIGHT, shadow; with --config or --feed
    #[arg(long, value_name = "ROLLOUT", value_parser = rollout, default_value = "full")]
    rollout: Rollout,
    /// How to say what was published; as JSON, one object
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    #[command(flatten)]
    board: Board,
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(arguments: Arguments, runtime: &Runtime, registry: &Arc<Registry>) -> Result<String, Failure> {
    let board = arguments.board.open_if_named(registry)?;
    let configured = board.as_ref().and_then(|board| board.store.as_ref());
    let limits = board.as_ref().map(|board| board.limits.clone()).unwrap_or_default();
    let limits = arguments.reach.limits(&limits);
    let store = arguments.reach.open_or(configured, |options| {
        if arguments.sign.is_some() {
            options.signing_key.clone_from(&arguments.sign);
        }
    })?;
    let draft = arguments.read(&limits)?;
    if !arguments.no_engine {
        draft.open().map_err(|error| match error {
            ModelError::Engine(_) => format!("{error}; or publish it with --no-engine"),
            _ => error.to_string(),
        })?;
    }
    let (bytes, manifest) = draft.into_parts();
    let (name, version) = (manifest.name.clone(), manifest.version.clone());
    let stored = runtime.block_on(store.put(bytes, manifest)).map_err(told)?;
    let announced = match &board {
        None => None,
        Some(board) => {
            let announcement = Announcement::new(&version, Place::Uri(stored.uri.clone()), stored.sha256);
            let announcement = announcement.rolled_out(arguments.rollout);
            let announce = |set: &mut ModelSet| {
                set.announce(announcement.clone());
                Ok(())
            };
            let set = board.change(&name, announce);
            Some(set.map_err(|error| format!("{name} {version} is in the store; announcing it failed: {error}"))?)
        }
    };
    Ok(match arguments.format {
        Format::Table => {
            format!("{}{}", text(&name, &version, &stored), announced.as_ref().map_or_else(String::new, in_force))
        }
        Format::Json => {
            let Stored { uri, sha256, is_new } = stored;
            let line = serde_json::json!({
                "name": name, "version": version, "uri": uri, "sha256": sha256.to_string(), "new": is_new,
                "announced": announced,
            });
            format!("{line}\n")
        }
    })
}

/// Whether the rollout can be, beside others, is checked where all are known.
fn rollout(text: &str) -> Result<Rollout, String> {
    let wrong = || format!("{text:?} is none of full, canary=PERCENT, weight=WEIGHT and shadow");
    match text.split_once('=') {
        None if text == "full" => Ok(Rollout::Full),
        None if text == "shadow" => Ok(Rollout::Shadow),
        Some(("canary", percent)) => Ok(Rollout::Canary { percent: percent.parse().map_err(|_| wrong())? }),
        Some(("weight", weight)) => Ok(Rollout::Weighted { weight: weight.parse().map_err(|_| wrong())? }),
        _ => Err(wrong()),
    }
}

impl Arguments {
    fn read(&self, limits: &Limits) -> Result<Draft, Failure> {
        let source = self.manifest.clone().map_or(ManifestSource::Model, ManifestSource::File);
        let draft = Draft::read(&self.model, &source, limits).map_err(|error| error.to_string())?;
        Ok(draft.named(self.name.as_deref(), self.published_version.as_deref()))
    }
}

fn text(name: &str, version: &str, stored: &Stored) -> String {
    let what = if stored.is_new { "published" } else { "there already, with the same content" };
    format!("{name} {version} {what}\nuri     {}\nsha256  {}\n", stored.uri, stored.sha256)
}
