//! Getting an announced file.

use std::path::{Component, Path, PathBuf};

use iotml_core::model::{Announcement, Place};
use prost::bytes::Bytes;

use super::refused::Refused;
use crate::ModelError;
use crate::manifest::Manifest;
use crate::model::read_limited;

/// A file, not looked at yet.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) file: Bytes,
    /// The manifest that lay with it.
    pub(crate) manifest: Option<Manifest>,
}

/// Gets the file of `announced`, of at most `limit` bytes.
pub(crate) async fn fetch(announced: &Announcement, limit: u64) -> Result<Fetched, Refused> {
    let uri = match &announced.place {
        Place::Inline(file) => return Ok(Fetched { file: Bytes::from(file.clone()), manifest: None }),
        Place::Uri(uri) => uri,
    };
    let Some(path) = uri.strip_prefix("file://") else {
        let what = "only inline models and file:///path are known here";
        return Err(Refused::for_good(format!("no model can be fetched from {uri:?}: {what}")));
    };
    let path = local(path)?;
    let read = tokio::task::spawn_blocking(move || read_limited(&path, limit)).await;
    match read {
        Ok(Ok(file)) => Ok(Fetched { file: Bytes::from(file), manifest: None }),
        // A file that is not there yet may come: a folder is filled by whoever likes, in any order.
        Ok(Err(error @ ModelError::Read { .. })) => Err(Refused::for_now(error.to_string())),
        Ok(Err(error)) => Err(Refused::for_good(error.to_string())),
        Err(_) => Err(Refused::for_now(format!("reading {uri:?} broke off"))),
    }
}

/// The file of a `file://` address: absolute, and no way up.
fn local(path: &str) -> Result<PathBuf, Refused> {
    let file = Path::new(path);
    let is_plain = file.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !file.is_absolute() || !is_plain {
        let wanted = "an absolute path without `..` is needed, as in file:///models/cars-3.onnx";
        return Err(Refused::for_good(format!("\"file://{path}\" is not read: {wanted}")));
    }
    Ok(file.to_owned())
}
