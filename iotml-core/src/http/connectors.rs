//! Pipelines under the paths of Kafka Connect's REST interface, as far as they mean something here.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post, put};
use serde_json::{Map, Value, json};

use super::Behind;
use super::answer::{Refusal, answer};
use super::controls::Controlled;
use crate::pipeline::{PipelineControl, PipelineStatus, TaskState, TaskStatus};

type Asked = State<Arc<Behind>>;
type Answered = Result<Response, Refusal>;

pub(super) fn routes() -> Router<Arc<Behind>> {
    Router::new()
        .route("/", get(root))
        .route("/connectors", get(list))
        .route("/connectors/{name}", get(info))
        .route("/connectors/{name}/config", get(config))
        .route("/connectors/{name}/status", get(status))
        .route("/connectors/{name}/offsets", get(offsets))
        .route("/connectors/{name}/tasks", get(tasks))
        .route("/connectors/{name}/tasks/{task}/status", get(task_status))
        .route("/connectors/{name}/tasks/{task}/restart", post(restart_task))
        .route("/connectors/{name}/restart", post(restart))
        .route("/connectors/{name}/pause", put(pause))
        .route("/connectors/{name}/resume", put(resume))
        .route("/connectors/{name}/stop", put(stop))
        .route("/connectors/{name}/leave", put(leave))
        .route("/connector-plugins", get(plugins))
}

async fn root(State(behind): Asked) -> Response {
    let body = json!({ "version": env!("CARGO_PKG_VERSION"), "commit": "unknown", "kafka_cluster_id": null });
    answer(StatusCode::OK, &body, &behind.controls)
}

async fn list(State(behind): Asked, Query(query): Query<Vec<(String, String)>>) -> Answered {
    let pipelines = behind.controls.list();
    let mut expand = Vec::new();
    for (key, value) in &query {
        match (key.as_str(), value.as_str()) {
            ("expand", "status" | "info") => expand.push(value.as_str()),
            _ => {
                return Err(Refusal::bad_request(format!(
                    "{key}={value} is not known; there are expand=status and expand=info"
                )));
            }
        }
    }
    let body = if expand.is_empty() {
        json!(pipelines.iter().map(|pipeline| pipeline.control.name()).collect::<Vec<_>>())
    } else {
        let expanded = pipelines.iter().map(|pipeline| {
            let mut parts = Map::new();
            if expand.contains(&"status") {
                parts.insert("status".to_owned(), status_of(&pipeline.control.status()));
            }
            if expand.contains(&"info") {
                parts.insert("info".to_owned(), info_of(pipeline));
            }
            (pipeline.control.name().to_owned(), Value::Object(parts))
        });
        Value::Object(expanded.collect())
    };
    Ok(answer(StatusCode::OK, &body, &behind.controls))
}

async fn info(State(behind): Asked, Path(name): Path<String>) -> Answered {
    Ok(answer(StatusCode::OK, &info_of(&found(&behind, &name)?), &behind.controls))
}

async fn config(State(behind): Asked, Path(name): Path<String>) -> Answered {
    Ok(answer(StatusCode::OK, &found(&behind, &name)?.config, &behind.controls))
}

async fn status(State(behind): Asked, Path(name): Path<String>) -> Answered {
    let status = found(&behind, &name)?.control.status();
    Ok(answer(StatusCode::OK, &status_of(&status), &behind.controls))
}

async fn offsets(State(behind): Asked, Path(name): Path<String>) -> Answered {
    let status = found(&behind, &name)?.control.status();
    let offsets = status.tasks.iter().flat_map(|task| &task.offsets);
    let offsets = offsets.map(|at| json!({ "partition": at.partition, "offset": at.offset }));
    let body = json!({ "offsets": offsets.collect::<Vec<_>>() });
    Ok(answer(StatusCode::OK, &body, &behind.controls))
}

async fn tasks(State(behind): Asked, Path(name): Path<String>) -> Answered {
    let status = found(&behind, &name)?.control.status();
    let tasks = status.tasks.iter().map(|task| json!({ "id": { "connector": name, "task": task.task }, "config": {} }));
    Ok(answer(StatusCode::OK, &json!(tasks.collect::<Vec<_>>()), &behind.controls))
}

async fn task_status(State(behind): Asked, Path((name, task)): Path<(String, String)>) -> Answered {
    let status = found(&behind, &name)?.control.status();
    let known = task.parse().ok().and_then(|task: usize| status.tasks.get(task));
    let known = known.ok_or_else(|| no_task(&name, &task))?;
    Ok(answer(StatusCode::OK, &status_of_task(known, &status.instance), &behind.controls))
}

async fn restart_task(State(behind): Asked, Path((name, task)): Path<(String, String)>) -> Answered {
    let control = steered(&behind, &name)?;
    let number = task.parse().ok().filter(|task| *task < control.status().tasks.len());
    match number.map(|task| control.restart_task(task)) {
        Some(true) => Ok(nothing(StatusCode::NO_CONTENT)),
        // A connector that is stopped has no tasks in Kafka Connect.
        Some(false) => {
            Err(Refusal::not_found(format!("Task {task} of connector {name} is stopped; resume the connector")))
        }
        None => Err(no_task(&name, &task)),
    }
}

/// A pipeline is nothing but its tasks, so these are restarted unless the caller says otherwise; Kafka Connect, where a
/// connector has something of its own to restart, wants `includeTasks=true` for them.
async fn restart(
    State(behind): Asked,
    Path(name): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Answered {
    let control = steered(&behind, &name)?;
    let (mut include_tasks, mut only_failed) = (true, false);
    for (key, value) in &query {
        let flag = value.to_ascii_lowercase().parse();
        match (key.as_str(), flag) {
            ("includeTasks", Ok(flag)) => include_tasks = flag,
            ("onlyFailed", Ok(flag)) => only_failed = flag,
            _ => {
                let message =
                    format!("{key}={value} is not known; there are includeTasks and onlyFailed, true or false");
                return Err(Refusal::bad_request(message));
            }
        }
    }
    let mut status = control.status();
    if include_tasks {
        let restarted = control.restart(only_failed);
        // As in Kafka Connect, the answer shows what is about to happen; what is stopped stays so until it is resumed.
        restarted.into_iter().for_each(|task| status.tasks[task].state = TaskState::Restarting);
    }
    Ok(answer(StatusCode::ACCEPTED, &status_of(&status), &behind.controls))
}

async fn pause(State(behind): Asked, Path(name): Path<String>) -> Answered {
    steered(&behind, &name)?.pause();
    Ok(nothing(StatusCode::ACCEPTED))
}

async fn resume(State(behind): Asked, Path(name): Path<String>) -> Answered {
    steered(&behind, &name)?.resume();
    Ok(nothing(StatusCode::ACCEPTED))
}

async fn stop(State(behind): Asked, Path(name): Path<String>) -> Answered {
    steered(&behind, &name)?.stop();
    Ok(nothing(StatusCode::NO_CONTENT))
}

/// Not in Kafka Connect, whose consumers own nothing at the far side that outlives them.
async fn leave(State(behind): Asked, Path(name): Path<String>) -> Answered {
    steered(&behind, &name)?.leave();
    Ok(nothing(StatusCode::ACCEPTED))
}

async fn plugins(State(behind): Asked) -> Response {
    answer(StatusCode::OK, behind.controls.plugins(), &behind.controls)
}

fn found(behind: &Behind, name: &str) -> Result<Controlled, Refusal> {
    behind.controls.find(name).ok_or_else(|| Refusal::not_found(format!("Connector {name} not found")))
}

/// A pipeline that can still be told something.
fn steered(behind: &Behind, name: &str) -> Result<PipelineControl, Refusal> {
    let control = found(behind, name)?.control;
    match control.has_ended() {
        true => Err(Refusal::new(StatusCode::CONFLICT, format!("Connector {name} has ended; start the worker again"))),
        false => Ok(control),
    }
}

fn no_task(name: &str, task: &str) -> Refusal {
    Refusal::not_found(format!("Task {task} of connector {name} not found"))
}

fn nothing(status: StatusCode) -> Response {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

fn info_of(pipeline: &Controlled) -> Value {
    let name = pipeline.control.name();
    let n_tasks = pipeline.control.status().tasks.len();
    let tasks = (0..n_tasks).map(|task| json!({ "connector": name, "task": task })).collect::<Vec<_>>();
    json!({ "name": name, "config": &*pipeline.config, "tasks": tasks, "type": KIND })
}

fn status_of(status: &PipelineStatus) -> Value {
    let PipelineStatus { name, instance, state, tasks } = status;
    let mut connector = json!({ "state": state.as_str(), "worker_id": instance });
    let trace = tasks.iter().find_map(|task| task.trace.as_deref());
    if let (TaskState::Failed, Some(trace)) = (state, trace) {
        connector["trace"] = trace.into();
    }
    let tasks = tasks.iter().map(|task| status_of_task(task, instance)).collect::<Vec<_>>();
    json!({ "name": name, "connector": connector, "tasks": tasks, "type": KIND })
}

fn status_of_task(task: &TaskStatus, instance: &str) -> Value {
    let mut status = json!({ "id": task.task, "state": task.state.as_str(), "worker_id": instance });
    if let Some(trace) = &task.trace {
        status["trace"] = trace.as_str().into();
    }
    status
}

/// A pipeline has a source and sinks; Kafka Connect's clients know this third word.
const KIND: &str = "unknown";
