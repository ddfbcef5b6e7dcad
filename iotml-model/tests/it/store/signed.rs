//! Signatures: who demands them is served nothing else.

use std::path::PathBuf;

use iotml_model::store::{SigningKey, Store, StoreError, StoreOptions};

use super::{manifest, model, unique};

/// A key as files, 32 bytes as base64 each.
pub struct Key {
    folder: tempfile::TempDir,
}

impl Key {
    pub fn new(seed: u8) -> Self {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        let folder = tempfile::tempdir().unwrap();
        let seed = STANDARD.encode([seed; 32]);
        let key = SigningKey::from_text(seed.as_bytes(), "test").unwrap();
        std::fs::write(folder.path().join("private"), seed).unwrap();
        std::fs::write(folder.path().join("public"), key.verifying_key().to_base64()).unwrap();
        Key { folder }
    }

    pub fn private(&self) -> PathBuf {
        self.folder.path().join("private")
    }

    pub fn public(&self) -> PathBuf {
        self.folder.path().join("public")
    }
}

/// The same store, once more, with other options.
fn open(url: &str, change: impl FnOnce(&mut StoreOptions)) -> Store {
    let mut options = StoreOptions::default();
    change(&mut options);
    Store::open(url, &options).unwrap()
}

fn demanding(url: &str, key: &Key) -> Store {
    open(url, |options| {
        options.trusted_keys = vec![key.public()];
        options.require_signature = true;
    })
}

#[tokio::test]
async fn a_signed_model_is_served_to_who_demands_a_signature() {
    let (key, url) = (Key::new(1), format!("memory://{}", unique("plant")));
    let publisher = open(&url, |options| options.signing_key = Some(key.private()));
    publisher.put(model(0.5), manifest("cars", "1")).await.unwrap();
    assert!(publisher.list(None).await.unwrap()[0].is_signed);
    assert_eq!(demanding(&url, &key).fetch("cars", "1", None).await.unwrap().model, model(0.5));
    let other = Key::new(2);
    let both = open(&url, |options| options.trusted_keys = vec![other.public(), key.public()]);
    // A store reads its keys when it is opened.
    drop(other);
    assert!(both.fetch("cars", "1", None).await.is_ok(), "one of several trusted keys is enough");
}

#[tokio::test]
async fn a_model_that_is_not_signed_is_refused_only_where_a_signature_is_demanded() {
    let (key, url) = (Key::new(1), format!("memory://{}", unique("plant")));
    let publisher = open(&url, |_| {});
    publisher.put(model(0.5), manifest("cars", "1")).await.unwrap();
    let error = demanding(&url, &key).fetch("cars", "1", None).await.unwrap_err();
    assert!(matches!(error, StoreError::Unsigned { .. }), "{error}");
    assert!(error.to_string().contains("publish it with the private key of a trusted key"), "{error}");
    let tolerant = open(&url, |options| options.trusted_keys = vec![key.public()]);
    assert!(tolerant.fetch("cars", "1", None).await.is_ok());

    let signing = open(&url, |options| options.signing_key = Some(key.private()));
    let again = signing.put(model(0.5), manifest("cars", "1")).await.unwrap();
    assert!(!again.is_new, "a version can be signed later");
    assert!(demanding(&url, &key).fetch("cars", "1", None).await.is_ok());
}

#[tokio::test]
async fn what_somebody_else_signed_or_changed_is_refused_by_all_who_look() {
    let (key, thief) = (Key::new(1), Key::new(2));
    for demanded in [true, false] {
        let url = format!("memory://{}", unique("plant"));
        let reader = open(&url, |options| {
            options.trusted_keys = vec![key.public()];
            options.require_signature = demanded;
        });
        let publisher = open(&url, |options| options.signing_key = Some(key.private()));
        publisher.put(model(0.5), manifest("cars", "1")).await.unwrap();
        let text = publisher.dig("cars/1/manifest.json").await.unwrap();
        let mut changed = text.to_vec();
        changed.push(b'\n');
        publisher.plant("cars/1/manifest.json", changed).await.unwrap();
        let error = reader.fetch("cars", "1", None).await.unwrap_err();
        assert!(matches!(error, StoreError::BadSignature { n_keys: 1, .. }), "{error}");
        publisher.plant("cars/1/manifest.json", text).await.unwrap();
        assert!(reader.fetch("cars", "1", None).await.is_ok());

        // The signature covers the model by its digest.
        publisher.plant("cars/1/model.onnx", model(0.25)).await.unwrap();
        let error = reader.fetch("cars", "1", None).await.unwrap_err();
        assert!(matches!(error, StoreError::Digest { .. }), "{error}");

        let stolen = open(&url, |options| options.signing_key = Some(thief.private()));
        stolen.put(model(0.5), manifest("cars", "2")).await.unwrap();
        let error = reader.fetch("cars", "2", None).await.unwrap_err();
        assert!(matches!(error, StoreError::BadSignature { .. }), "{error}");
        assert!(error.to_string().contains("cars/2/manifest.json.sig"), "{error}");
    }
}

#[tokio::test]
async fn who_comes_second_leaves_no_signature_behind() {
    let (key, url) = (Key::new(1), format!("memory://{}", unique("plant")));
    let early = open(&url, |_| {});
    early.put(model(0.5), manifest("cars", "1")).await.unwrap();
    let late = open(&url, |options| options.signing_key = Some(key.private()));
    let mut other = manifest("cars", "1");
    other.features[0].impute = Some(1.0);
    let error = late.put(model(0.5), other).await.unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
    assert!(!late.list(None).await.unwrap()[0].is_signed);
}

#[tokio::test]
async fn what_was_kept_without_a_signature_is_not_served_to_who_demands_one() {
    let (key, url) = (Key::new(1), format!("memory://{}", unique("plant")));
    let cache = tempfile::tempdir().unwrap();
    let lenient = open(&url, |options| options.cache = Some(cache.path().to_owned()));
    lenient.put(model(0.5), manifest("cars", "1")).await.unwrap();
    lenient.fetch("cars", "1", None).await.unwrap();
    let strict = open(&url, |options| {
        options.cache = Some(cache.path().to_owned());
        options.trusted_keys = vec![key.public()];
        options.require_signature = true;
    });
    let error = strict.fetch("cars", "1", None).await.unwrap_err();
    assert!(matches!(error, StoreError::Unsigned { .. }), "{error}");
}

#[test]
fn a_policy_that_nothing_can_meet_is_refused_at_once() {
    let options = StoreOptions { require_signature: true, ..StoreOptions::default() };
    let error = Store::open("memory://", &options).unwrap_err().to_string();
    assert_eq!(error, "options of the model store: require_signature is set, but trusted_keys names no key");
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { trusted_keys: vec![folder.path().join("none.pem")], ..StoreOptions::default() };
    let error = Store::open("memory://", &options).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the key ") && error.contains("none.pem"), "{error}");
    let key = Key::new(1);
    let options = StoreOptions { trusted_keys: vec![key.private()], ..StoreOptions::default() };
    assert!(Store::open("memory://", &options).is_ok(), "32 bytes are 32 bytes");
    let pem = folder.path().join("other.pem");
    std::fs::write(&pem, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    let options = StoreOptions { signing_key: Some(pem), ..StoreOptions::default() };
    let error = Store::open("memory://", &options).unwrap_err().to_string();
    assert!(error.contains("is no private key of ed25519") && error.contains("openssl genpkey"), "{error}");
}
