//! The same on real servers that speak the protocol of S3.

use iotml_core::testing::servers::server;
use iotml_model::store::{Store, StoreError, StoreOptions};

use super::conformance::conforms;
use super::{impatient, manifest, model, unique};

/// The store in a bucket of the server that `name` names.
fn bucket(name: &str) -> Option<(Store, StoreOptions)> {
    let endpoint = server(name)?;
    let password = std::env::var(format!("{name}_PASSWORD")).unwrap_or_else(|_| "any".to_owned());
    let options =
        StoreOptions { request_timeout: StoreOptions::default().request_timeout, ..impatient(&endpoint, &password) };
    let url = format!("s3://models/{}", unique("plant"));
    Some((Store::open(&url, &options).unwrap(), options))
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_conform() {
    let Some((store, options)) = bucket("IOTML_S3") else { return };
    conforms(&store).await;
    names_a_missing_bucket(&options).await;
    // MinIO takes long to build, so it is there only now and then.
    if let Ok(endpoint) = std::env::var("IOTML_MINIO") {
        let Some((store, options)) = bucket("IOTML_MINIO") else { return };
        conforms(&store).await;
        names_a_missing_bucket(&options).await;
        keeps_others_out(&store, &endpoint).await;
        println!("store: MinIO conforms, too");
    }
}

async fn keeps_others_out(store: &Store, endpoint: &str) {
    let password = unique("password");
    let stranger = Store::open(store.url(), &impatient(endpoint, &password)).unwrap();
    let error = stranger.put(model(0.5), manifest("cars", "1")).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }), "{error}");
    assert!(!error.to_string().contains(&password), "{error}");
}

async fn names_a_missing_bucket(options: &StoreOptions) {
    let elsewhere = Store::open(&format!("s3://{}", unique("none")), options).unwrap();
    let error = elsewhere.fetch("cars", "1", None).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("NoSuchBucket"), "{error}");
}
