//! `model describe`.

use std::fmt::Write as _;

use iotml_core::cli::clap::{self, Args};

use super::reach::{Reach, Trusted};
use super::{Failure, Format, told};
use crate::manifest::{Feature, Manifest, Scale};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The model
    #[arg(value_name = "NAME")]
    name: String,
    /// Its version
    #[arg(value_name = "VERSION")]
    version: String,
    /// How to show it; as JSON, its manifest
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Fetch the model, too, and check that it is the one that was published
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    trusted: Trusted,
    #[command(flatten)]
    reach: Reach,
}

pub(super) async fn run(arguments: Arguments) -> Result<String, Failure> {
    let Arguments { name, version, format, verify, trusted, reach } = arguments;
    let store = reach.open(|options| {
        options.trusted_keys = trusted.keys;
        options.require_signature = trusted.require_signature;
    })?;
    let uri = store.uri(&name, &version).map_err(told)?;
    let (manifest, n_bytes) = if verify {
        let fetched = store.fetch(&name, &version, None).await.map_err(told)?;
        (fetched.manifest, Some(fetched.model.len()))
    } else {
        (store.manifest(&name, &version).await.map_err(told)?, None)
    };
    Ok(match format {
        Format::Json => format!("{}\n", manifest.to_json()),
        Format::Table => text(&uri, &manifest, n_bytes),
    })
}

fn text(uri: &str, manifest: &Manifest, n_bytes: Option<usize>) -> String {
    let mut out = String::new();
    let mut line = |word: &str, text: &str| _ = writeln!(out, "{word:10} {text}");
    line("model", &format!("{} {}", manifest.name, manifest.version));
    line("uri", uri);
    line("kind", manifest.kind.as_str());
    if let Some(digest) = manifest.model_sha256 {
        line("sha256", &digest.to_string());
    }
    if let Some(n_bytes) = n_bytes {
        line("bytes", &format!("{n_bytes}, fetched and as published"));
    }
    let threshold = manifest.threshold.as_ref().and_then(|threshold| serde_json::to_string(threshold).ok());
    line("threshold", threshold.as_deref().unwrap_or("none"));
    line("golden", &format!("{} rows", manifest.golden.as_ref().map_or(0, |golden| golden.input.len())));
    if let Some(trained) = manifest.trained.as_ref().and_then(|trained| serde_json::to_string(trained).ok()) {
        line("trained", &trained);
    }
    for (at, feature) in manifest.features.iter().enumerate() {
        line(if at == 0 { "features" } else { "" }, &format!("{} {}", feature.name, scaling(feature)));
    }
    out
}

fn scaling(feature: &Feature) -> String {
    match (feature.constant, feature.scale) {
        (Some(constant), _) => format!("always {constant}"),
        (None, Some(Scale::Range { min, max })) => format!("from {min} to {max}"),
        (None, Some(Scale::Standard { mean, std })) => format!("around {mean}, by {std}"),
        (None, None) => "as it is".to_owned(),
    }
}
