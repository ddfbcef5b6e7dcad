//! `/admin/loggers`: levels of the log, read and changed while the worker runs.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Map, Value, json};

use super::Behind;
use super::answer::{Refusal, answer};
use crate::log;

pub(super) fn routes() -> Router<Arc<Behind>> {
    Router::new().route("/admin/loggers", get(all)).route("/admin/loggers/{name}", get(one).put(set))
}

async fn all(State(behind): State<Arc<Behind>>) -> Response {
    let levels = log::levels().into_iter().map(|(name, level)| (name, level_of(&level)));
    answer(StatusCode::OK, &Value::Object(levels.collect::<Map<_, _>>()), &behind.controls)
}

async fn one(State(behind): State<Arc<Behind>>, Path(name): Path<String>) -> Result<Response, Refusal> {
    let level = log::levels().remove(&name).ok_or_else(|| Refusal::not_found(format!("Logger {name} not found")))?;
    Ok(answer(StatusCode::OK, &level_of(&level), &behind.controls))
}

async fn set(State(behind): State<Arc<Behind>>, Path(name): Path<String>, body: Bytes) -> Result<Response, Refusal> {
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let level = asked.get("level").and_then(Value::as_str);
    let level = level.ok_or_else(|| Refusal::bad_request("say which level: {\"level\": \"DEBUG\"}"))?;
    log::set_level(&name, level).map_err(|error| Refusal::bad_request(error.to_string()))?;
    Ok(answer(StatusCode::OK, &json!([name]), &behind.controls))
}

fn level_of(level: &str) -> Value {
    json!({ "level": level.to_uppercase() })
}
