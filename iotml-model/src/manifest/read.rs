//! Where a model's manifest comes from.

use std::path::{Path, PathBuf};

use super::{METADATA_KEY, Manifest};
use crate::ModelError;
use crate::precheck::proto::Model;

/// No manifest comes near this; a larger file is not one.
const MAX_JSON_BYTES: u64 = 16 << 20;

/// Where to take the manifest from.
#[derive(Debug, Clone, Default)]
pub enum ManifestSource {
    /// The one in the ONNX metadata, else the JSON file beside the model.
    #[default]
    Model,
    /// A JSON file.
    File(PathBuf),
    /// This one.
    Given(Box<Manifest>),
}

impl ManifestSource {
    /// Reads the manifest of the parsed `model`, which came from `path` if it came from a file.
    ///
    /// # Errors
    /// [`ModelError::NoManifest`] if there is none, [`ModelError::Read`] or [`ModelError::Manifest`] if it cannot be
    /// used.
    pub(crate) fn read(&self, model: &Model, path: Option<&Path>) -> Result<Manifest, ModelError> {
        match self {
            ManifestSource::Given(manifest) => {
                manifest.check().map_err(|source| from("the one given in code", source))?;
                Ok(manifest.as_ref().clone())
            }
            ManifestSource::File(file) => read_file(file),
            ManifestSource::Model => {
                let beside = path.map(|path| path.with_extension("json")).filter(|file| file.is_file());
                if let Some(json) = embedded(model) {
                    if json.len() as u64 > MAX_JSON_BYTES {
                        let path = PathBuf::from("the manifest in the ONNX metadata");
                        return Err(ModelError::FileTooLarge { path, limit: MAX_JSON_BYTES });
                    }
                    let manifest = Manifest::from_json(json.as_bytes())
                        .map_err(|source| from("the one in the ONNX metadata", source))?;
                    warn_of_difference(&manifest, beside.as_deref());
                    return Ok(manifest);
                }
                match (beside, path) {
                    (Some(file), _) => read_file(&file),
                    (None, Some(path)) => Err(ModelError::NoManifest { beside: path.with_extension("json") }),
                    (None, None) => Err(ModelError::NoManifest { beside: PathBuf::from("MODEL.json") }),
                }
            }
        }
    }
}

fn embedded(model: &Model) -> Option<&str> {
    model.metadata_props.iter().find(|entry| entry.key == METADATA_KEY).map(|entry| entry.value.as_str())
}

fn read_file(file: &Path) -> Result<Manifest, ModelError> {
    let json = crate::model::read_limited(file, MAX_JSON_BYTES)?;
    Manifest::from_json(&json).map_err(|source| from(&file.display().to_string(), source))
}

fn from(place: &str, source: super::ManifestError) -> ModelError {
    ModelError::Manifest { place: place.to_owned(), source }
}

/// Two manifests that differ are somebody's unfinished edit, and it should not pass unseen.
fn warn_of_difference(embedded: &Manifest, beside: Option<&Path>) {
    if let Some(file) = beside
        && read_file(file).ok().as_ref() != Some(embedded)
    {
        tracing::warn!(
            file = %file.display(),
            "the manifest beside the model differs from the one in its metadata, which is used"
        );
    }
}
