//! `audit`, `status`, `pause`, `resume`, `restart`, `leave`: what a running worker is asked over HTTP.

use std::process::ExitCode;
use std::time::Duration;

use axum::http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::net::TcpStream;

use super::arguments::{Far, Named};
use super::output::{fail, print};
use crate::error::report;

/// Where the token is read from; an argument could be seen by every user of the machine.
const TOKEN: &str = "IOTML_TOKEN";

/// How long a worker may take for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The columns of the balance.
const COLUMNS: [&str; 7] = ["received", "delivered", "dead_lettered", "filtered", "skipped", "returned", "in_flight"];

/// What became of every row.
pub(super) fn audit(far: &Far) -> ExitCode {
    let answer = match ask(far, Method::GET, "/audit") {
        Ok(answer) => answer,
        Err(message) => return fail(&message, 1),
    };
    let mut rows = vec![["pipeline", "task"].into_iter().chain(COLUMNS).map(str::to_owned).collect::<Vec<_>>()];
    let mut wrong = Vec::new();
    for pipeline in list(&answer["pipelines"]) {
        let name = text(&pipeline["name"]);
        let tasks = list(&pipeline["tasks"]);
        for task in tasks.iter().chain((tasks.len() > 1).then_some(&pipeline["total"])) {
            let number = task.get("task").map_or_else(|| "all".to_owned(), text);
            if task["balances"] != true {
                wrong.push(format!("{name}/{number}"));
            }
            rows.push([name.clone(), number].into_iter().chain(COLUMNS.map(|column| text(&task[column]))).collect());
        }
    }
    print(&table(&rows));
    match wrong.is_empty() {
        true => ExitCode::SUCCESS,
        false => fail(&format!("rows were lost: received is not the sum of the rest in {}", wrong.join(", ")), 1),
    }
}

/// How the pipelines are doing.
pub(super) fn status(far: &Far) -> ExitCode {
    let answer = match ask(far, Method::GET, "/connectors?expand=status") {
        Ok(answer) => answer,
        Err(message) => return fail(&message, 1),
    };
    let mut rows = vec![["pipeline", "task", "state", "worker", "trace"].map(str::to_owned).to_vec()];
    let mut has_failed = false;
    for (name, pipeline) in answer.as_object().into_iter().flatten() {
        let status = &pipeline["status"];
        let connector = &status["connector"];
        rows.push(vec![name.clone(), String::new(), text(&connector["state"]), text(&connector["worker_id"])]);
        for task in list(&status["tasks"]) {
            has_failed |= task["state"] == "FAILED";
            let columns = ["id", "state", "worker_id", "trace"].map(|column| text(&task[column]));
            rows.push(std::iter::once(name.clone()).chain(columns).collect());
        }
    }
    print(&table(&rows));
    if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Pause, resume or leave.
pub(super) fn put(named: &Named, what: &str) -> ExitCode {
    let name = utf8_percent_encode(&named.name, NON_ALPHANUMERIC);
    tell(&named.far, Method::PUT, &format!("/connectors/{name}/{what}"))
}

/// Begins tasks anew.
pub(super) fn restart(named: &Named, task: Option<usize>, only_failed: bool) -> ExitCode {
    let name = utf8_percent_encode(&named.name, NON_ALPHANUMERIC);
    let path = match task {
        Some(task) => format!("/connectors/{name}/tasks/{task}/restart"),
        None => format!("/connectors/{name}/restart?includeTasks=true&onlyFailed={only_failed}"),
    };
    match ask(&named.far, Method::POST, &path) {
        Ok(body) if body["connector"]["state"] == "STOPPED" => {
            fail(&format!("{} is stopped, and stays so until it is resumed", named.name), 1)
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(message) => fail(&message, 1),
    }
}

fn tell(far: &Far, method: Method, path: &str) -> ExitCode {
    match ask(far, method, path) {
        Ok(_) => ExitCode::SUCCESS,
        Err(message) => fail(&message, 1),
    }
}

/// The answer to one request, or in one line what is wrong.
fn ask(far: &Far, method: Method, path: &str) -> Result<Value, String> {
    let url: Uri = far.url.parse().map_err(|error| format!("{:?} is no URL: {error}", far.url))?;
    let host = url.host().filter(|_| url.scheme_str().is_none_or(|scheme| scheme == "http"));
    let host =
        host.ok_or_else(|| format!("{:?} is no URL of a worker; write it like http://127.0.0.1:9464", far.url))?;
    let address = format!("{host}:{}", url.port_u16().unwrap_or(80));
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, &address);
    if let Ok(token) = std::env::var(TOKEN) {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Empty::new()).map_err(|_| format!("the value of {TOKEN} is no token"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime can be made: {error}"))?;
    let answered = runtime.block_on(async { tokio::time::timeout(PATIENCE, exchange(&address, request)).await });
    let (status, body) = match answered {
        Ok(answered) => answered.map_err(|error| format!("no worker answers at {address}: {error}"))?,
        Err(_) => return Err(format!("the worker at {address} does not answer")),
    };
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    match (status.is_success(), body.get("message")) {
        (true, _) => Ok(body),
        (false, _) if status == StatusCode::UNAUTHORIZED => {
            Err(format!("{address}: {}; set {TOKEN}", text(&body["message"])))
        }
        (false, Some(message)) => Err(format!("{address}: {}", text(message))),
        (false, None) => {
            Err(format!("{address} answers {status} to {path}; does it listen there with control = true?"))
        }
    }
}

async fn exchange(address: &str, request: Request<Empty<Bytes>>) -> Result<(StatusCode, Bytes), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| report(&error))?;
    // It drives the request, whose own future tells what goes wrong.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| report(&error))?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| report(&error))?;
    Ok((status, body.to_bytes()))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Columns side by side, numbers to the right.
fn table(rows: &[Vec<String>]) -> String {
    let n_columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &Vec<String>, at: usize| row.get(at).cloned().unwrap_or_default();
    let widths: Vec<_> =
        (0..n_columns).map(|at| rows.iter().map(|row| cell(row, at).chars().count()).max().unwrap_or(0)).collect();
    let is_number = |at: usize| rows.iter().skip(1).all(|row| cell(row, at).parse::<u64>().is_ok());
    let mut out = String::new();
    for row in rows {
        let cells = (0..n_columns).map(|at| match is_number(at) {
            true => format!("{:>1$}", cell(row, at), widths[at]),
            false => format!("{:<1$}", cell(row, at), widths[at]),
        });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_words_left() {
        let rows = [vec!["pipeline", "rows"], vec!["a", "7"], vec!["bridge-2", "12345"]];
        let rows: Vec<Vec<String>> = rows.into_iter().map(|row| row.into_iter().map(str::to_owned).collect()).collect();
        assert_eq!(table(&rows), "pipeline   rows\na             7\nbridge-2  12345\n");
    }
}
