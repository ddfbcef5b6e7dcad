//! `/audit`: what became of every row, by pipeline and task (invariant 4).

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::Behind;
use super::answer::answer;
use crate::pipeline::{Audit, PipelineStatus};

pub(super) async fn audit(State(behind): State<Arc<Behind>>) -> Response {
    let pipelines: Vec<_> = behind.controls.all().iter().map(|control| of_pipeline(&control.status())).collect();
    let balances = pipelines.iter().all(|pipeline| pipeline["balances"] == true);
    answer(StatusCode::OK, &json!({ "pipelines": pipelines, "balances": balances }), &behind.controls)
}

fn of_pipeline(status: &PipelineStatus) -> Value {
    let total = status.tasks.iter().map(|task| task.audit).fold(Audit::default(), |sum, one| sum + one);
    let tasks = status.tasks.iter().map(|task| {
        let mut balance = of_rows(&task.audit);
        (balance["task"], balance["state"]) = (task.task.into(), task.state.as_str().into());
        balance
    });
    let tasks: Vec<_> = tasks.collect();
    // Two mistakes may cancel each other out in a sum.
    let balances = tasks.iter().all(|task| task["balances"] == true);
    json!({ "name": status.name, "tasks": tasks, "total": of_rows(&total), "balances": balances })
}

fn of_rows(audit: &Audit) -> Value {
    let Audit { received, delivered, dead_lettered, filtered, skipped, returned, in_flight } = audit;
    json!({
        "received": received,
        "delivered": delivered,
        "dead_lettered": dead_lettered,
        "filtered": filtered,
        "skipped": skipped,
        "returned": returned,
        "in_flight": in_flight,
        "balances": audit.balances(),
    })
}
