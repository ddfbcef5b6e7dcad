//! The network of the demo: a file by its path, or the default one out of the program itself.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The default network, ONNX with its manifest in the metadata.
pub const DEFAULT_NETWORK: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/cars/cars-autoencoder.onnx"));

/// A file with a network; one that was written for the demo is there as long as this is.
pub struct Network {
    path: PathBuf,
    _folder: Option<TempDir>,
}

impl Network {
    /// The file at `path`, or a temporary one with the default network.
    pub fn new(path: Option<&Path>) -> io::Result<Self> {
        if let Some(path) = path {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("cars-autoencoder.onnx");
        std::fs::write(&path, DEFAULT_NETWORK)?;
        Ok(Self { path, _folder: Some(folder) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
