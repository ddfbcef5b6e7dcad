//! One version of a model, as it is announced.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Digest, Rollout};

/// One version of a model: where its file is, what it must be, and which rows it scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Announcement {
    /// The version, which stands in every row that it scores.
    pub version: String,
    /// Where the ONNX file is.
    pub place: Place,
    /// The digest of the ONNX file.
    pub sha256: Digest,
    /// The model's manifest; without it, the one in the file's metadata or beside it counts.
    pub manifest: Option<Value>,
    /// Whether it may score.
    pub state: Availability,
    /// Which rows it scores.
    pub rollout: Rollout,
}

/// Where the ONNX file of an announced version is.
#[derive(Clone, PartialEq)]
pub enum Place {
    /// `uri`: `file:///path` on the worker's machine, or an address in a model store.
    Uri(String),
    /// `inline`: the file itself; in JSON, base64.
    Inline(Vec<u8>),
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

/// Whether an announced version may score, in the words of TensorFlow Serving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Availability {
    /// It may.
    #[default]
    Ready,
    /// It is retired: kept in the set so that it is known what was before.
    Unavailable,
}

impl Announcement {
    /// A version in `place` that scores all rows.
    pub fn new(version: impl Into<String>, place: Place, sha256: Digest) -> Self {
        let (state, rollout) = (Availability::Ready, Rollout::Full);
        Self { version: version.into(), place, sha256, manifest: None, state, rollout }
    }

    /// A version whose file comes along with the announcement.
    pub fn inline(version: impl Into<String>, file: Vec<u8>) -> Self {
        let sha256 = Digest::of(&file);
        Self::new(version, Place::Inline(file), sha256)
    }

    /// The same, for other rows.
    #[must_use]
    pub fn rolled_out(self, rollout: Rollout) -> Self {
        Self { rollout, ..self }
    }

    /// Whether it may score.
    pub fn is_ready(&self) -> bool {
        self.state == Availability::Ready
    }
}

impl Place {
    /// For people: the address, or how large the file is that came along.
    pub fn describe(&self) -> String {
        match self {
            Place::Uri(uri) => uri.clone(),
            Place::Inline(file) => format!("inline, {} bytes", file.len()),
        }
    }
}

/// An announcement as it is written: a place is one of two keys.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inline: Option<String>,
    sha256: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    manifest: Option<Value>,
    #[serde(default)]
    state: Availability,
    #[serde(default)]
    rollout: Rollout,
}

impl From<Announcement> for Fields {
    fn from(announcement: Announcement) -> Self {
        let Announcement { version, place, sha256, manifest, state, rollout } = announcement;
        let (uri, inline) = match place {
            Place::Uri(uri) => (Some(uri), None),
            Place::Inline(file) => (None, Some(STANDARD.encode(file))),
        };
        Self { version, uri, inline, sha256, manifest, state, rollout }
    }
}

impl TryFrom<Fields> for Announcement {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        let Fields { version, uri, inline, sha256, manifest, state, rollout } = fields;
        let place = match (uri, inline) {
            (Some(uri), None) => Place::Uri(uri),
            (None, Some(text)) => {
                let file = STANDARD.decode(text);
                Place::Inline(file.map_err(|error| format!("`inline` of version {version:?} is no base64: {error}"))?)
            }
            _ => return Err(format!("version {version:?} needs either `uri` or `inline`")),
        };
        Ok(Self { version, place, sha256, manifest, state, rollout })
    }
}
