//! Answers in JSON, and refusals as Kafka Connect words them.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Controls;

/// What the caller did wrong.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: StatusCode,
    pub message: String,
}

impl Refusal {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "error_code": self.status.as_u16(), "message": self.message });
        (self.status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
    }
}

/// A JSON answer, with stars in place of secrets: the trace of a failure holds the words of others.
pub(super) fn answer(status: StatusCode, body: &Value, controls: &Controls) -> Response {
    let body = controls.scrub(&body.to_string()).into_owned();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// There is no such page.
pub(super) async fn no_such_path() -> Refusal {
    Refusal::not_found("HTTP 404 Not Found")
}

/// The page is there, and does not do that.
pub(super) async fn no_such_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "HTTP 405 Method Not Allowed")
}
