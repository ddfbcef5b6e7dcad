//! What holds of every store, whatever it is made of.

use iotml_core::model::Digest;
use iotml_model::store::{Store, StoreError, StoreOptions};
use iotml_model::{GoldenRule, ManifestSource, Model, OpenOptions};

use super::{manifest, model, unique};

/// Runs all of it on one store.
pub async fn conforms(store: &Store) {
    comes_back_as_it_was_put(store).await;
    versions_never_change(store).await;
    of_two_publishers_one_wins(store).await;
    a_publisher_that_died_can_be_finished(store).await;
    is_listed_oldest_first(store).await;
    what_is_not_there_is_named(store).await;
}

async fn comes_back_as_it_was_put(store: &Store) {
    let name = unique("cars");
    let stored = store.put(model(0.5), manifest(&name, "1")).await.unwrap();
    assert!(stored.is_new);
    assert_eq!(stored.sha256, Digest::of(&model(0.5)));
    assert_eq!(stored.uri, format!("{}/{name}/1", store.url()));

    let fetched = store.fetch(&name, "1", None).await.unwrap();
    assert_eq!(fetched.model, model(0.5));
    assert_eq!((fetched.name.as_str(), fetched.version.as_str()), (name.as_str(), "1"));
    assert_eq!(fetched.manifest.model_sha256, Some(stored.sha256));
    assert_eq!(fetched.manifest.features, manifest(&name, "1").features);
    assert_eq!(fetched.sha256, stored.sha256);
    let same = store.fetch_uri(&stored.uri, Some(stored.sha256)).await.unwrap();
    assert_eq!(same.model, fetched.model);
    assert_eq!(store.manifest(&name, "1").await.unwrap(), fetched.manifest);

    let announced = Digest::of(b"another");
    let error = store.fetch_uri(&stored.uri, Some(announced)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Announced { expected, .. } if *expected == announced), "{error}");

    if crate::setup::onnxruntime() {
        let options = OpenOptions {
            manifest: ManifestSource::Given(Box::new(fetched.manifest)),
            golden: GoldenRule::None,
            ..OpenOptions::default()
        };
        let mut opened = Model::from_bytes(fetched.model.into(), &stored.uri, &options).unwrap();
        assert_eq!(opened.run(&[3.0]).unwrap(), [1.5]);
    }
}

async fn versions_never_change(store: &Store) {
    let name = unique("cars");
    store.put(model(0.5), manifest(&name, "1")).await.unwrap();
    let again = store.put(model(0.5), manifest(&name, "1")).await.unwrap();
    assert!(!again.is_new, "the same content is the same version");

    let other_model = store.put(model(0.25), manifest(&name, "1")).await.unwrap_err();
    assert!(matches!(other_model, StoreError::Exists { .. }), "{other_model}");
    assert!(other_model.to_string().contains("publish under another version"), "{other_model}");
    let mut other = manifest(&name, "1");
    other.features[0].impute = Some(1.0);
    let other_manifest = store.put(model(0.5), other).await.unwrap_err();
    assert!(matches!(other_manifest, StoreError::Exists { .. }), "{other_manifest}");

    let fetched = store.fetch(&name, "1", None).await.unwrap();
    assert_eq!(fetched.model, model(0.5));
    assert_eq!(fetched.manifest.features[0].impute, None);
    assert!(store.put(model(0.25), manifest(&name, "2")).await.unwrap().is_new);
}

async fn of_two_publishers_one_wins(store: &Store) {
    const N_PUBLISHERS: usize = 8;
    let name = unique("cars");
    let publishers: Vec<_> = (0..N_PUBLISHERS)
        .map(|n| {
            let (store, manifest) = (store.clone(), manifest(&name, "1"));
            tokio::spawn(async move { store.put(model(n as f32 + 1.0), manifest).await })
        })
        .collect();
    let mut winner = None;
    for (n, publisher) in publishers.into_iter().enumerate() {
        match publisher.await.unwrap() {
            Ok(stored) => assert!(winner.replace((n, stored)).is_none(), "two publishers were told that they won"),
            Err(StoreError::Exists { .. } | StoreError::Unfinished { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let (n, stored) = winner.expect("a winner");
    assert!(stored.is_new);
    let fetched = store.fetch(&name, "1", Some(stored.sha256)).await.unwrap();
    assert_eq!(fetched.model, model(n as f32 + 1.0), "the winner's model is the one that is there");

    let name = unique("cars");
    let publishers: Vec<_> = (0..N_PUBLISHERS)
        .map(|_| {
            let (store, manifest) = (store.clone(), manifest(&name, "1"));
            tokio::spawn(async move { store.put(model(1.0), manifest).await })
        })
        .collect();
    let mut n_new = 0;
    for publisher in publishers {
        n_new += usize::from(publisher.await.unwrap().expect("the same content").is_new);
    }
    assert_eq!(n_new, 1);
}

async fn a_publisher_that_died_can_be_finished(store: &Store) {
    let name = unique("cars");
    store.plant(&format!("{name}/1/model.onnx"), model(0.5)).await.unwrap();
    let error = store.fetch(&name, "1", None).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }), "a version without its manifest does not exist: {error}");
    assert!(store.list(Some(&name)).await.unwrap().is_empty());

    let error = store.put(model(0.25), manifest(&name, "1")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unfinished { .. }), "{error}");
    assert!(error.to_string().contains("delete the object if nobody is at work"), "{error}");
    assert!(store.put(model(0.5), manifest(&name, "1")).await.unwrap().is_new);
    assert_eq!(store.fetch(&name, "1", None).await.unwrap().model, model(0.5));
}

async fn is_listed_oldest_first(store: &Store) {
    let (name, longer) = (unique("cars"), unique("cars"));
    for version in ["10", "9", "2026-11-28"] {
        store.put(model(0.5), manifest(&name, version)).await.unwrap();
    }
    store.put(model(0.5), manifest(&longer, "1")).await.unwrap();
    let of_one = store.list(Some(&name)).await.unwrap();
    let mut versions: Vec<_> = of_one.iter().map(|listed| listed.version.as_str()).collect();
    assert!(of_one.is_sorted_by_key(|listed| listed.published));
    versions.sort_unstable();
    assert_eq!(versions, ["10", "2026-11-28", "9"]);
    assert!(of_one.iter().all(|listed| listed.model_bytes == Some(model(0.5).len() as u64) && !listed.is_signed));
    let all = store.list(None).await.unwrap();
    assert!(all.iter().any(|listed| listed.name == longer) && all.iter().any(|listed| listed.name == name));
    assert!(all.is_sorted_by_key(|listed| listed.name.clone()));
}

async fn what_is_not_there_is_named(store: &Store) {
    let name = unique("cars");
    let error = store.fetch(&name, "7", None).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
    assert!(error.to_string().contains(&format!("{name} 7 in {}", store.url())), "{error}");
    assert!(store.list(Some(&name)).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms() {
    conforms(&Store::open("memory://", &StoreOptions::default()).unwrap()).await;
    let shared = Store::open(&format!("memory://{}/below/it", unique("plant")), &StoreOptions::default()).unwrap();
    conforms(&shared).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made by the first put");
    let store = Store::open(path.to_str().unwrap(), &StoreOptions::default()).unwrap();
    assert!(store.list(None).await.unwrap().is_empty(), "a folder that is not there yet is an empty store");
    conforms(&store).await;
    let by_url = Store::open(store.url(), &StoreOptions::default()).unwrap();
    assert_eq!(by_url.url(), store.url());
    assert_eq!(by_url.list(None).await.unwrap(), store.list(None).await.unwrap());
}

#[tokio::test]
async fn names_cannot_lead_out_of_the_store() {
    let store = Store::open("memory://", &StoreOptions::default()).unwrap();
    for bad in ["..", "../cars", "a/b", "a b", ""] {
        if !bad.is_empty() {
            let error = store.put(model(0.5), manifest(bad, "1")).await.unwrap_err();
            assert!(matches!(error, StoreError::Name { what: "name", .. }), "{error}");
        }
        let error = store.fetch("cars", bad, None).await.unwrap_err();
        assert!(matches!(error, StoreError::Name { what: "version", .. }), "{error}");
        assert!(matches!(store.list(Some(bad)).await, Err(StoreError::Name { .. })));
    }
    for uri in ["memory:///../cars/1", "file:///etc/cars/1", "memory://cars"] {
        let error = store.fetch_uri(uri, None).await.unwrap_err();
        assert!(matches!(error, StoreError::Elsewhere { .. }), "{uri}: {error}");
    }
}
