//! What was fetched, kept in a folder.
//!
//! Models are files named by their digest, versions (manifest and signature) by a digest of their address. Nothing there is
//! believed: what is read is verified, and what is not as it should be is taken away and fetched anew. Several processes may
//! share the folder: a file comes there by rename, and only one process writes or takes away at a time.

use std::fs::{self, File, FileTimes};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use iotml_core::model::Digest;
use prost::bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::MAX_MANIFEST_BYTES;

/// The file that the process holds that writes.
const LOCK: &str = "lock";
/// How unfinished files begin.
const UNFINISHED: &str = ".unfinished-";

/// A folder of models; a clone is the same one.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    folder: Arc<PathBuf>,
    max_bytes: u64,
}

/// A manifest and the signature beside it, as they are in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sealed {
    pub manifest: Bytes,
    pub signature: Option<Bytes>,
}

/// The same in a file.
#[derive(Serialize, Deserialize)]
struct Page {
    sha256: Digest,
    manifest: String,
    signature: Option<String>,
}

impl Page {
    fn digest(&self) -> Digest {
        Digest::of(format!("{}\n{}", self.signature.as_deref().unwrap_or_default(), self.manifest).as_bytes())
    }
}

impl Cache {
    pub(super) fn new(folder: PathBuf, max_bytes: u64) -> Self {
        Cache { folder: Arc::new(folder), max_bytes }
    }

    /// The model with a digest.
    pub(super) fn model(&self, digest: Digest, limit: u64) -> Option<Bytes> {
        self.read(&format!("{digest}.onnx"), limit, |bytes| (Digest::of(&bytes) == digest).then(|| Bytes::from(bytes)))
    }

    /// Keeps a model; whether that worked matters to nobody but who reads the log.
    pub(super) fn keep_model(&self, digest: Digest, model: &[u8]) {
        self.keep(&format!("{digest}.onnx"), model);
    }

    /// Manifest and signature of a version.
    pub(super) fn version(&self, key: &str) -> Option<Sealed> {
        // Escapes may double a text.
        self.read(&format!("{key}.json"), 2 * MAX_MANIFEST_BYTES, |bytes| {
            let page: Page = serde_json::from_slice(&bytes).ok()?;
            (page.digest() == page.sha256)
                .then(|| Sealed { manifest: page.manifest.into(), signature: page.signature.map(Bytes::from) })
        })
    }

    /// Keeps manifest and signature of a version.
    pub(super) fn keep_version(&self, key: &str, sealed: &Sealed) {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).ok();
        let Some(manifest) = text(&sealed.manifest) else { return };
        let signature = sealed.signature.as_ref().and_then(text);
        let mut page = Page { sha256: Digest::of(b""), manifest, signature };
        page.sha256 = page.digest();
        self.keep(&format!("{key}.json"), &serde_json::to_vec(&page).unwrap_or_default());
    }

    fn read<T>(&self, name: &str, limit: u64, verify: impl FnOnce(Vec<u8>) -> Option<T>) -> Option<T> {
        let path = self.folder.join(name);
        let file = File::open(&path).ok()?;
        // Too large here, but perhaps not for who keeps it; the store says how large it should be.
        if file.metadata().ok()?.len() > limit {
            return None;
        }
        let mut bytes = Vec::new();
        (&file).take(limit).read_to_end(&mut bytes).ok()?;
        let verified = verify(bytes);
        match verified {
            // What was used last goes last.
            Some(_) => _ = file.set_times(FileTimes::new().set_modified(SystemTime::now())),
            None => {
                tracing::warn!(file = %path.display(), "a file in the cache of models is damaged and is removed");
                _ = fs::remove_file(&path);
            }
        }
        verified
    }

    fn keep(&self, name: &str, bytes: &[u8]) {
        if let Err(error) = self.write(name, bytes) {
            let folder = self.folder.display();
            tracing::warn!(%error, %folder, "a model cannot be kept on disk and will be fetched again");
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 > self.max_bytes {
            return Err(io::Error::other(format!("{} bytes are above the bound of {}", bytes.len(), self.max_bytes)));
        }
        // A model may be a secret of its owner.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(self.folder.as_path())?;
        let lock = File::options().create(true).write(true).truncate(false).open(self.folder.join(LOCK))?;
        lock.lock()?;
        self.make_room(bytes.len() as u64, name)?;
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(self.folder.as_path())?;
        file.write_all(bytes)?;
        file.persist(self.folder.join(name)).map_err(|error| error.error)?;
        Ok(())
    }

    /// Takes away what was not used for the longest time, until `n_bytes` more fit; the file `name` is replaced and does not
    /// count. The lock is held.
    fn make_room(&self, n_bytes: u64, name: &str) -> io::Result<()> {
        let mut files = Vec::new();
        let mut total = 0;
        for entry in fs::read_dir(self.folder.as_path())? {
            let entry = entry?;
            let file_name = entry.file_name();
            if file_name == LOCK || file_name == name {
                continue;
            }
            // Whoever wrote it holds the lock no more, so it has died.
            if file_name.to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_file(entry.path())?;
                continue;
            }
            let is_ours = [".onnx", ".json"].iter().any(|end| file_name.to_string_lossy().ends_with(end));
            // A reader may have taken a damaged file away meanwhile.
            if let Some(meta) = entry.metadata().ok().filter(|meta| is_ours && meta.is_file()) {
                total += meta.len();
                files.push((meta.modified()?, meta.len(), entry.path()));
            }
        }
        files.sort();
        for (_, n_freed, path) in files {
            if total + n_bytes <= self.max_bytes {
                break;
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => total -= n_freed,
            }
        }
        Ok(())
    }
}
