//! What is kept on disk: it serves when the store is away, is bounded, and is believed only after a look.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use iotml_core::plugin::ByteSize;
use iotml_model::precheck::Limits;
use iotml_model::store::{Store, StoreError, StoreOptions};

use super::{manifest, model};

/// A store in a folder, and a folder in which is kept what comes from it.
struct Kept {
    _folder: tempfile::TempDir,
    store: PathBuf,
    cache: PathBuf,
}

impl Kept {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, cache) = (folder.path().join("store"), folder.path().join("cache"));
        Kept { _folder: folder, store, cache }
    }

    fn open(&self, cache_bytes: usize) -> Store {
        let options = StoreOptions {
            cache: Some(self.cache.clone()),
            cache_bytes: ByteSize(cache_bytes),
            ..StoreOptions::default()
        };
        Store::open(self.store.to_str().unwrap(), &options).unwrap()
    }

    /// The models that are kept.
    fn models(&self) -> BTreeSet<PathBuf> {
        let entries = fs::read_dir(&self.cache).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|end| end == "onnx")).collect()
    }

    fn bytes(&self) -> u64 {
        fs::read_dir(&self.cache).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    }
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_model_that_was_fetched_is_there_while_the_store_is_away() {
    let kept = Kept::new();
    let store = kept.open(1 << 20);
    let stored = store.put(model(0.5), manifest("cars", "1")).await.unwrap();
    store.fetch("cars", "1", None).await.unwrap();
    fs::remove_dir_all(&kept.store).unwrap();
    let fetched = store.fetch_uri(&stored.uri, Some(stored.sha256)).await.unwrap();
    assert_eq!((fetched.model, fetched.sha256), (model(0.5).into(), stored.sha256));
    let error = kept.open(1 << 20).fetch("cars", "2", None).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn what_was_damaged_on_disk_is_fetched_anew() {
    let kept = Kept::new();
    let store = kept.open(1 << 20);
    store.put(model(0.5), manifest("cars", "1")).await.unwrap();
    for end in ["onnx", "json"] {
        for truncated in [false, true] {
            store.fetch("cars", "1", None).await.unwrap();
            for entry in fs::read_dir(&kept.cache).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|found| found == end) {
                    if truncated { fs::write(&path, "").unwrap() } else { damage(&path) }
                }
            }
            assert_eq!(store.fetch("cars", "1", None).await.unwrap().model, model(0.5), "{end}");
        }
    }
    kept.models().iter().for_each(|path| damage(path));
    fs::remove_dir_all(&kept.store).unwrap();
    let error = store.fetch("cars", "1", None).await.unwrap_err();
    assert!(matches!(error, StoreError::Incomplete { .. }), "nothing that is damaged is served: {error}");
    assert!(kept.models().is_empty());
}

#[tokio::test]
async fn a_store_that_was_made_anew_is_noticed_by_the_announced_digest() {
    let kept = Kept::new();
    let store = kept.open(1 << 20);
    store.put(model(0.5), manifest("cars", "1")).await.unwrap();
    store.fetch("cars", "1", None).await.unwrap();
    fs::remove_dir_all(&kept.store).unwrap();
    let stored = store.put(model(0.25), manifest("cars", "1")).await.unwrap();
    let fetched = store.fetch("cars", "1", Some(stored.sha256)).await.unwrap();
    assert_eq!(fetched.model, model(0.25));
}

#[tokio::test]
async fn inv_6_what_is_kept_is_bounded_and_the_oldest_goes_first() {
    let kept = Kept::new();
    let bound = 8_000;
    let store = kept.open(bound);
    for version in 1..=30 {
        store.put(model(version as f32), manifest("cars", &version.to_string())).await.unwrap();
        store.fetch("cars", &version.to_string(), None).await.unwrap();
        assert!(kept.bytes() <= bound as u64, "{} bytes are kept after version {version}", kept.bytes());
        // It was used a moment ago each time, so it stays.
        store.fetch("cars", "1", None).await.unwrap();
    }
    assert!((2..30).contains(&kept.models().len()), "{:?}", kept.models());
    fs::remove_dir_all(&kept.store).unwrap();
    assert_eq!(store.fetch("cars", "1", None).await.unwrap().model, model(1.0));
    assert!(store.fetch("cars", "2", None).await.is_err(), "what was not used for long is gone");
}

#[tokio::test]
async fn what_is_too_large_or_cannot_be_kept_is_served_all_the_same() {
    let kept = Kept::new();
    let store = kept.open(10);
    store.put(model(0.5), manifest("cars", "1")).await.unwrap();
    assert_eq!(store.fetch("cars", "1", None).await.unwrap().model, model(0.5));
    fs::write(&kept.cache, "a file where the folder should be").unwrap();
    assert_eq!(kept.open(1 << 20).fetch("cars", "1", None).await.unwrap().model, model(0.5));
}

#[tokio::test]
async fn what_is_too_large_for_one_process_is_kept_for_the_others() {
    let kept = Kept::new();
    let store = kept.open(1 << 20);
    store.put(model(0.5), manifest("cars", "1")).await.unwrap();
    store.fetch("cars", "1", None).await.unwrap();
    let models = kept.models();
    assert_eq!(models.len(), 1);
    let limits = Limits { max_bytes: model(0.5).len() as u64 - 1, ..Limits::default() };
    let options = StoreOptions { cache: Some(kept.cache.clone()), limits, ..StoreOptions::default() };
    let small = Store::open(kept.store.to_str().unwrap(), &options).unwrap();
    let error = small.fetch("cars", "1", None).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    assert_eq!(kept.models(), models);
    fs::remove_dir_all(&kept.store).unwrap();
    assert_eq!(store.fetch("cars", "1", None).await.unwrap().model, model(0.5), "out of the folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_share_what_is_kept() {
    const N_READERS: usize = 8;
    let kept = Kept::new();
    // Little room, so that they take away each other's files.
    let bound = 3_000;
    let store = kept.open(bound);
    for version in 1..=6 {
        store.put(model(version as f32), manifest("cars", &version.to_string())).await.unwrap();
    }
    // Each has a store of its own, and so locks and files of its own, as another process has.
    let readers: Vec<_> = (0..N_READERS)
        .map(|reader| {
            let store = kept.open(bound);
            tokio::spawn(async move {
                for round in 0..30 {
                    let version = 1 + (reader + round) % 6;
                    let fetched = store.fetch("cars", &version.to_string(), None).await.unwrap();
                    assert_eq!(fetched.model, model(version as f32));
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(kept.bytes() <= bound as u64, "{}", kept.bytes());
    let unfinished = fs::read_dir(&kept.cache)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".unfinished-"));
    assert_eq!(unfinished.count(), 0);
}

#[tokio::test]
async fn what_a_process_that_died_left_is_cleared_away_and_other_files_are_not() {
    let kept = Kept::new();
    fs::create_dir(&kept.cache).unwrap();
    fs::write(kept.cache.join(".unfinished-x"), vec![0; 100]).unwrap();
    fs::write(kept.cache.join("notes.txt"), vec![0; 10_000]).unwrap();
    let store = kept.open(4 * model(0.5).len());
    store.put(model(0.5), manifest("cars", "1")).await.unwrap();
    store.fetch("cars", "1", None).await.unwrap();
    assert!(!kept.cache.join(".unfinished-x").exists());
    assert!(kept.cache.join("notes.txt").exists());
}
