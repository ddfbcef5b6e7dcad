//! Buckets that do not behave: a server of our own says what no good one would. Each time there is one clear error, soon, without
//! the password in it.

use std::time::{Duration, Instant};

use iotml_core::error::Class;
use iotml_model::store::{Store, StoreError};

use super::server::{Answer, Server, object, status};
use super::{impatient, manifest, model, unique};

/// How long the impatient options allow: two tries of a second at most, and what lies between them.
const PATIENCE: Duration = Duration::from_secs(10);

/// Fetches from a server, and puts into it: two errors of a kind, soon, with `says` and without the password.
async fn fails_clearly(server: &Server, is_expected: impl Fn(&StoreError) -> bool, says: &str) {
    let password = unique("password");
    let store = Store::open("s3://models/plant", &impatient(&server.endpoint, &password)).unwrap();
    let begun = Instant::now();
    let errors = [
        store.fetch("cars", "1", None).await.unwrap_err(),
        store.put(model(0.5), manifest("cars", "1")).await.unwrap_err(),
        store.list(None).await.unwrap_err(),
    ];
    assert!(begun.elapsed() < 3 * PATIENCE, "{:?}", begun.elapsed());
    for error in errors {
        assert!(is_expected(&error), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("s3://models/plant"), "the object is named: {text}");
        assert!(text.to_lowercase().contains(says), "{text}");
        let chain = iotml_core::error::report(&error);
        assert!(!format!("{chain} {error:?}").contains(&password), "{chain}");
        assert!(text.len() < 800, "{text}");
    }
}

fn is_unavailable(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { .. }) && error.class() == Class::Retryable
}

fn is_denied(error: &StoreError) -> bool {
    matches!(error, StoreError::Denied { .. }) && error.class() == Class::Fatal
}

#[tokio::test]
async fn inv_10_one_that_answers_500_is_tried_again_and_then_unavailable() {
    let server = Server::new(status("500 Internal Server Error", "out of order")).await;
    fails_clearly(&server, is_unavailable, "500").await;
    assert_eq!(server.n_requests(), 6, "each of three calls is made twice");
}

#[tokio::test]
async fn inv_10_one_that_answers_403_is_not_tried_again() {
    let body = "<Error><Code>AccessDenied</Code><Message>not you</Message></Error>";
    let server = Server::new(status("403 Forbidden", body)).await;
    fails_clearly(&server, is_denied, "access is denied; check the credentials").await;
    assert_eq!(server.n_requests(), 3);
}

#[tokio::test]
async fn inv_10_one_that_hangs_is_not_waited_for() {
    let server = Server::new(Answer::Nothing).await;
    fails_clearly(&server, is_unavailable, "timed out").await;
}

#[tokio::test]
async fn inv_10_one_that_hangs_up_or_is_not_there() {
    let server = Server::new(Answer::Close).await;
    fails_clearly(&server, is_unavailable, "cannot").await;
    server.stop().await;
    fails_clearly(&server, is_unavailable, "cannot").await;
}

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_not_an_empty_one() {
    let body = "<Error><Code>NoSuchBucket</Code><Message>no such bucket</Message></Error>";
    let server = Server::new(status("404 Not Found", body)).await;
    fails_clearly(&server, is_unavailable, "nosuchbucket").await;
}

#[tokio::test]
async fn a_body_that_ends_too_early_is_not_taken_for_a_model() {
    let whole = model(0.5);
    let store = super::memory();
    store.put(whole.clone(), manifest("cars", "1")).await.unwrap();
    let text = store.dig("cars/1/manifest.json").await.unwrap();
    let n_sent = whole.len() - 1;
    let server = Server::answering(move |request| match request {
        request if request.contains("manifest.json.sig") => status("404 Not Found", ""),
        request if request.contains("manifest.json") => object(&text, text.len()),
        _ => object(&whole, n_sent),
    })
    .await;
    let store = Store::open("s3://models", &impatient(&server.endpoint, &unique("password"))).unwrap();
    let error = store.fetch("cars", "1", None).await.unwrap_err();
    assert!(is_unavailable(&error), "{error}");
    assert!(error.to_string().starts_with("cannot read s3://models/cars/1/model.onnx: "), "{error}");
}

#[test]
fn inv_10_properties_that_cannot_be_are_named_without_their_value() {
    let mut options = impatient("http://127.0.0.1:1", "hunter2");
    options.properties.insert("aws_secret_key_acess", "hunter2");
    let error = Store::open("s3://models", &options).unwrap_err();
    assert!(error.to_string().starts_with("property \"aws_secret_key_acess\" of the model store"), "{error}");
    assert!(!format!("{error} {error:?} {options:?}").contains("hunter2"));
}
