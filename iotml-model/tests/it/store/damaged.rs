//! Objects that are not what they should be: each is refused with what to do, and nothing of it is used.

use iotml_core::error::Class;
use iotml_core::model::Digest;
use iotml_model::precheck::Limits;
use iotml_model::store::{Store, StoreError, StoreOptions};
use iotml_model::testing::OnnxBuilder;

use super::{manifest, memory, model};

/// A store with `cars` 1, of which one object was replaced.
async fn with(object: &str, content: Vec<u8>) -> Store {
    let store = memory();
    store.put(model(0.5), manifest("cars", "1")).await.unwrap();
    store.plant(&format!("cars/1/{object}"), content).await.unwrap();
    store
}

async fn refusal(store: &Store) -> String {
    let error = store.fetch("cars", "1", None).await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal, "trying again cannot help: {error}");
    error.to_string()
}

#[tokio::test]
async fn a_model_that_is_not_the_one_of_its_manifest() {
    let whole = model(0.5);
    let expected = Digest::of(&whole);
    for (what, content) in
        [("replaced", model(0.25)), ("truncated", whole[..whole.len() - 1].to_vec()), ("empty", vec![])]
    {
        let (found, n_bytes) = (Digest::of(&content), content.len());
        let error = refusal(&with("model.onnx", content).await).await;
        let says = format!(
            "memory:///cars/1/model.onnx has the SHA-256 {found} ({n_bytes} bytes), but its manifest says {expected}"
        );
        assert!(
            error.starts_with(&says) && error.contains("publish the model under another version"),
            "{what}: {error}"
        );
    }
}

#[tokio::test]
async fn a_model_that_is_missing() {
    let store = with("manifest.json.sig", b"not looked at".to_vec()).await;
    store.uproot("cars/1/model.onnx").await.unwrap();
    let error = refusal(&store).await;
    assert!(error.starts_with("memory:///cars/1/model.onnx is missing, though its version has a manifest"), "{error}");
    assert_eq!(store.list(None).await.unwrap()[0].model_bytes, None);
}

#[tokio::test]
async fn a_manifest_that_is_none() {
    for (content, says) in [
        (&b"<html>sign in</html>"[..], "is not of the expected form"),
        (b"", "is not of the expected form"),
        (br#"{"manifest_version": 2, "kind": "oracle"}"#, "update iotml, or export the model with the older one"),
        (
            br#"{"manifest_version": 1, "kind": "score", "name": "cars", "version": "1", "features": []}"#,
            "features: is empty",
        ),
    ] {
        let error = refusal(&with("manifest.json", content.to_vec()).await).await;
        assert!(error.contains(says) && error.contains("(memory:///cars/1/manifest.json)"), "{error}");
    }
}

#[tokio::test]
async fn a_manifest_that_no_store_wrote() {
    let error = refusal(&with("manifest.json", manifest("cars", "1").to_json().into()).await).await;
    assert!(error.contains("memory:///cars/1/manifest.json has no model_sha256"), "{error}");
    assert!(error.contains("iotml model publish"), "{error}");
}

#[tokio::test]
async fn a_version_that_is_passed_off_as_another_one() {
    let store = with("manifest.json.sig", Vec::new()).await;
    store.put(model(0.25), manifest("cars", "2")).await.unwrap();
    for object in ["model.onnx", "manifest.json"] {
        let older = store.dig(&format!("cars/1/{object}")).await.unwrap();
        store.plant(&format!("cars/2/{object}"), older).await.unwrap();
    }
    let error = store.fetch("cars", "2", None).await.unwrap_err();
    assert!(matches!(&error, StoreError::Misplaced { version, .. } if version == "1"), "{error}");
}

#[tokio::test]
async fn objects_that_are_too_large_are_not_read() {
    let options = StoreOptions { limits: Limits { max_bytes: 1_000, ..Limits::default() }, ..StoreOptions::default() };
    let store = Store::open("memory://", &options).unwrap();
    store.put(model(0.5), manifest("cars", "1")).await.unwrap();
    store.plant("cars/1/model.onnx", vec![0; 1_001]).await.unwrap();
    let error = refusal(&store).await;
    assert_eq!(error, "memory:///cars/1/model.onnx has 1001 bytes, but at most 1000 are allowed");
    let error = store.put(vec![0; 1_001], manifest("cars", "2")).await.unwrap_err().to_string();
    assert!(error.contains("file of 1001 bytes is above the limit of 1000"), "{error}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![0; 1_001]).unwrap();
    let error = store.put_file(file.path(), manifest("cars", "2")).await.unwrap_err().to_string();
    assert!(error.ends_with("has 1001 bytes, but at most 1000 are allowed"), "{error}");
    store.plant("cars/1/manifest.json", vec![b' '; (16 << 20) + 1]).await.unwrap();
    assert!(refusal(&store).await.starts_with("memory:///cars/1/manifest.json has 16777217 bytes"));
}

#[tokio::test]
async fn what_no_worker_would_load_is_not_published() {
    let store = memory();
    let axes = [None, Some(1)];
    let unknown = OnnxBuilder::new().input("x", &axes).output("y", &axes).node("Teleport", &["x"], &["y"]).build();
    let mut other_digest = manifest("cars", "1");
    other_digest.model_sha256 = Some(Digest::of(b"another"));
    for (file, manifest, says) in [
        (b"not a model".to_vec(), manifest("cars", "1"), "model cars 1 is refused: "),
        (unknown, manifest("cars", "1"), "Teleport"),
        (iotml_model::testing::scaled_copy(2, 0.5).build(), manifest("cars", "1"), "model cars 1 is refused: "),
        (model(0.5), other_digest, "the file of model cars 1 has the SHA-256"),
        (model(0.5), manifest("my cars", "1"), "\"my cars\" cannot be the name of a model in a store"),
    ] {
        let error = store.put(file, manifest).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    assert!(store.put_file("no/such/model.onnx".as_ref(), manifest("cars", "1")).await.is_err());
    assert!(store.list(None).await.unwrap().is_empty());
    assert!(store.dig("cars/1/model.onnx").await.is_err(), "nothing is left of what was refused");
}
