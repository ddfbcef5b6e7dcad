//! Control by Kafka Connect's paths, asked by a plain TCP client over a real socket.

use std::borrow::Cow;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use iotml_core::decode::{DecodeError, Decoder};
use iotml_core::http::{self, Controls, Endpoint, HttpServer};
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::{
    Health, OnFailure, Pipeline, PipelineControl, PipelineHandle, PipelineOptions, PipelineSpec, TaskStages, TaskState,
};
use iotml_core::secret::Secret;
use iotml_core::testing::{MemoryLog, MemorySink};
use serde_json::{Value, json};

use super::pipeline::{numbers, pass_through, quick, wait_until};

const TOKEN: &str = "0123456789abcdef";

/// Status and body of one request, with headers as lines.
pub(crate) fn call(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> (u16, Value) {
    let (status, _, body) = call_raw(address, method, path, headers, body);
    (status, if body.is_empty() { Value::Null } else { serde_json::from_str(&body).unwrap_or(json!(body)) })
}

fn call_raw(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let host = if headers.starts_with("Host: ") { String::new() } else { format!("Host: {address}\r\n") };
    let head = format!("{host}Connection: close\r\nContent-Length: {}\r\n{headers}", body.len());
    write!(stream, "{method} {path} HTTP/1.1\r\n{head}\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_owned(), body.to_owned())
}

/// Fails at the payload "bad", with a secret in what it says.
struct Picky;

impl Decoder for Picky {
    fn decode(
        &mut self,
        raw: &Arc<iotml_core::batch::RawBatch>,
    ) -> Result<iotml_core::batch::StageOutput, DecodeError> {
        match raw.messages().payload(0) {
            Some(b"bad") => Err(DecodeError::fatal("wrong password hunter2")),
            _ => iotml_core::decode::PassThrough.decode(raw),
        }
    }
}

/// A pipeline of two tasks under the name "cars", and the endpoint around it.
struct Cars {
    server: HttpServer,
    handle: PipelineHandle,
    control: PipelineControl,
    logs: [MemoryLog; 2],
}

impl Cars {
    fn start(token: Option<&str>, guards_metrics: bool) -> Self {
        let logs = [MemoryLog::default(), MemoryLog::default()];
        let sources = logs.clone();
        let sink = MemorySink::new();
        let mut spec = PipelineSpec::new("cars", move |context| {
            Ok(TaskStages { decoder: Box::new(Picky), ..pass_through(&sources[context.task], 5, &sink) })
        });
        (spec.n_tasks, spec.instance) = (2, "host-7".into());
        spec.options = PipelineOptions { on_failure: OnFailure::Stay, ..quick() };
        let handle = Pipeline::start(spec, Metrics::default()).unwrap();
        let plugins = json!([{ "class": "kafka", "type": "source", "version": "1" }]);
        let controls = Controls::new(plugins, |text| Cow::Owned(text.replace("hunter2", "***")));
        controls.add(handle.control(), json!({ "pipeline": { "name": "cars" }, "http": { "token": "***" } }));
        let control = handle.control();
        let well = || Health { is_healthy: true, is_ready: true, detail: "idle".to_owned() };
        let endpoint = Endpoint {
            controls: Some(controls),
            token: token.map(Secret::new),
            guards_metrics,
            ..Endpoint::new(Metrics::default(), Arc::new(well))
        };
        let server = http::serve_all("127.0.0.1:0".parse().unwrap(), endpoint).unwrap();
        Self { server, handle, control, logs }
    }

    fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    fn call(&self, method: &str, path: &str) -> (u16, Value) {
        call(self.server.address(), method, path, "", "")
    }

    fn wait_for(&self, state: TaskState) {
        wait_until(state.as_str(), || self.control.status().tasks.iter().all(|task| task.state == state));
    }
}

fn running(task: usize) -> Value {
    json!({ "id": task, "state": "RUNNING", "worker_id": "host-7" })
}

#[test]
fn what_is_there_is_told_in_the_shapes_of_kafka_connect() {
    let cars = Cars::start(None, false);
    assert_eq!(cars.get("/")["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(cars.get("/connectors"), json!(["cars"]));
    let status = json!({
        "name": "cars",
        "connector": { "state": "RUNNING", "worker_id": "host-7" },
        "tasks": [running(0), running(1)],
        "type": "unknown",
    });
    assert_eq!(cars.get("/connectors/cars/status"), status);
    let config = json!({ "name": "cars", "pipeline.name": "cars", "http.token": "***" });
    let tasks = json!([{ "connector": "cars", "task": 0 }, { "connector": "cars", "task": 1 }]);
    let info = json!({ "name": "cars", "config": config, "tasks": tasks, "type": "unknown" });
    assert_eq!(cars.get("/connectors/cars"), info);
    assert_eq!(cars.get("/connectors/cars/config"), config);
    assert_eq!(
        cars.get("/connectors?expand=status&expand=info"),
        json!({ "cars": { "status": status, "info": info } })
    );
    assert_eq!(cars.get("/connectors?expand=info"), json!({ "cars": { "info": info } }));
    assert_eq!(cars.get("/connectors/cars/tasks")[1]["id"], json!({ "connector": "cars", "task": 1 }));
    assert_eq!(cars.get("/connectors/cars/tasks/1/status"), running(1));
    assert_eq!(cars.get("/connector-plugins")[0]["class"], "kafka");

    cars.logs[1].publish(numbers(0..7));
    wait_until("acknowledged", || cars.logs[1].acked() == 7);
    let offset = json!({ "partition": { "log": "memory" }, "offset": { "acknowledged": 7 } });
    wait_until("the offsets show it", || cars.get("/connectors/cars/offsets")["offsets"][1] == offset);
}

#[test]
fn pipelines_are_paused_resumed_stopped_and_left() {
    let cars = Cars::start(None, false);
    assert_eq!(cars.call("PUT", "/connectors/cars/pause"), (202, Value::Null));
    cars.wait_for(TaskState::Paused);
    assert_eq!(cars.get("/connectors/cars/status")["connector"]["state"], "PAUSED");
    cars.logs[0].publish(numbers(0..3));
    assert_eq!(cars.call("PUT", "/connectors/cars/resume"), (202, Value::Null));
    wait_until("delivered", || cars.logs[0].acked() == 3);
    assert_eq!(cars.call("PUT", "/connectors/cars/stop"), (204, Value::Null));
    cars.wait_for(TaskState::Stopped);
    assert_eq!(cars.get("/connectors/cars/tasks/0/status")["state"], "STOPPED");
    // What is stopped stays so: the answer does not promise otherwise, and a resume finds nothing that was put off.
    let (status, body) = cars.call("POST", "/connectors/cars/restart");
    let states = [&body["connector"]["state"], &body["tasks"][0]["state"], &body["tasks"][1]["state"]];
    assert_eq!((status, states), (202, [&json!("STOPPED"); 3]), "{body}");
    let (status, body) = cars.call("POST", "/connectors/cars/tasks/1/restart");
    assert_eq!((status, &body["message"]), (404, &json!("Task 1 of connector cars is stopped; resume the connector")));
    assert_eq!(cars.call("PUT", "/connectors/cars/resume").0, 202);
    cars.wait_for(TaskState::Running);
    cars.logs[1].publish(numbers(0..2));
    wait_until("delivered", || cars.logs[1].acked() == 2);
    let n_restarts: Vec<_> = cars.control.status().tasks.iter().map(|task| task.n_restarts).collect();
    assert_eq!(n_restarts, [1, 1], "only the resume began them anew");
    assert_eq!(cars.call("POST", "/connectors/cars/tasks/1/restart").0, 204);
    wait_until("begun anew", || cars.control.status().tasks[1].n_restarts == 2);
    cars.wait_for(TaskState::Running);
    assert_eq!(cars.call("PUT", "/connectors/cars/leave").0, 202);
    wait_until("ended", || cars.handle.is_finished());
    let (status, body) = cars.call("PUT", "/connectors/cars/pause");
    assert_eq!((status, &body["error_code"]), (409, &json!(409)), "{body}");
}

#[test]
fn inv_10_a_failed_task_is_shown_without_secrets_and_restarted_alone() {
    let cars = Cars::start(None, false);
    cars.logs[1].publish(["bad"]);
    wait_until("task 1 failed", || cars.control.status().tasks[1].state == TaskState::Failed);
    let status = cars.get("/connectors/cars/status");
    assert_eq!((&status["connector"]["state"], &status["tasks"][0]), (&json!("RUNNING"), &running(0)));
    let trace = "decode \"decode\" failed: wrong password ***";
    assert_eq!((&status["tasks"][1]["state"], &status["tasks"][1]["trace"]), (&json!("FAILED"), &json!(trace)));

    // The row comes again, so each restart is seen by its count.
    let n_restarts = || cars.control.status().tasks.iter().map(|task| task.n_restarts).collect::<Vec<_>>();
    assert_eq!(cars.call("POST", "/connectors/cars/tasks/1/restart"), (204, Value::Null));
    wait_until("restarted", || n_restarts() == [0, 1]);
    wait_until("failed again", || cars.control.status().tasks[1].state == TaskState::Failed);
    let (status, body) = cars.call("POST", "/connectors/cars/restart?includeTasks=true&onlyFailed=true");
    let states = [&body["tasks"][0]["state"], &body["tasks"][1]["state"]];
    assert_eq!((status, states), (202, [&json!("RUNNING"), &json!("RESTARTING")]));
    wait_until("restarted", || n_restarts() == [0, 2]);
    wait_until("failed again", || cars.control.status().tasks[1].state == TaskState::Failed);
    assert_eq!(cars.call("POST", "/connectors/cars/restart?includeTasks=false").0, 202);
    assert_eq!(n_restarts(), [0, 2]);
    assert_eq!(cars.call("POST", "/connectors/cars/restart").0, 202);
    wait_until("all are restarted", || n_restarts() == [1, 3]);
}

#[test]
fn what_is_not_there_is_refused_as_kafka_connect_does() {
    let cars = Cars::start(None, false);
    for (method, path, code, message) in [
        ("GET", "/connectors/trucks/status", 404, "Connector trucks not found"),
        ("PUT", "/connectors/trucks/pause", 404, "Connector trucks not found"),
        ("GET", "/connectors/cars/tasks/2/status", 404, "Task 2 of connector cars not found"),
        ("POST", "/connectors/cars/tasks/one/restart", 404, "Task one of connector cars not found"),
        ("GET", "/nothing", 404, "HTTP 404 Not Found"),
        ("DELETE", "/connectors/cars", 405, "HTTP 405 Method Not Allowed"),
        ("POST", "/connectors/cars/restart?onlyFailed=perhaps", 400, "onlyFailed=perhaps is not known"),
        ("GET", "/connectors?expand=all", 400, "expand=all is not known"),
        ("PUT", "/admin/loggers/iotml_core", 400, "say which level"),
    ] {
        let (status, body) = cars.call(method, path);
        assert_eq!((status, &body["error_code"]), (code, &json!(code)), "{method} {path}: {body}");
        assert!(body["message"].as_str().unwrap().starts_with(message), "{body}");
    }
}

#[test]
fn inv_4_the_audit_is_told_by_pipeline_and_task() {
    let cars = Cars::start(None, false);
    cars.logs[0].publish(numbers(0..12));
    cars.logs[1].publish(["bad"]);
    wait_until("delivered", || cars.logs[0].acked() == 12);
    wait_until("failed", || cars.control.status().tasks[1].state == TaskState::Failed);
    let task = |task: u64, state: &str, received: u64, delivered: u64, returned: u64| {
        json!({
            "task": task, "state": state, "received": received, "delivered": delivered, "dead_lettered": 0, "filtered": 0,
            "skipped": 0, "returned": returned, "in_flight": 0, "balances": true,
        })
    };
    let audit = cars.get("/audit");
    assert_eq!(audit["balances"], true);
    let pipeline = &audit["pipelines"][0];
    assert_eq!((&pipeline["name"], &pipeline["balances"]), (&json!("cars"), &json!(true)));
    assert_eq!(pipeline["tasks"], json!([task(0, "RUNNING", 12, 12, 0), task(1, "FAILED", 1, 0, 1)]));
    assert_eq!((&pipeline["total"]["received"], &pipeline["total"]["returned"]), (&json!(13), &json!(1)));
}

#[test]
fn control_needs_the_token_and_metrics_need_it_if_told_so() {
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    let scheme = format!("Authorization: bearer {TOKEN}\r\n");
    let wrong = ["", "Authorization: Bearer 0123456789abcdee\r\n", "Authorization: Basic 0123456789abcdef\r\n"];
    for guards_metrics in [false, true] {
        let cars = Cars::start(Some(TOKEN), guards_metrics);
        let address = cars.server.address();
        for headers in wrong {
            for (method, path) in [
                ("GET", "/connectors"),
                ("GET", "/audit"),
                ("PUT", "/connectors/cars/pause"),
                ("GET", "/admin/loggers"),
            ] {
                let (status, head, body) = call_raw(address, method, path, headers, "");
                assert_eq!(status, 401, "{method} {path} {headers}: {body}");
                assert!(head.to_lowercase().contains("www-authenticate: bearer"), "{head}");
                let body: Value = serde_json::from_str(&body).unwrap();
                assert!(
                    body["message"].as_str().unwrap().contains("token") && !body.to_string().contains(TOKEN),
                    "{body}"
                );
            }
            for path in ["/metrics", "/healthz", "/readyz"] {
                let (status, _) = call(address, "GET", path, headers, "");
                assert_eq!(status, if guards_metrics { 401 } else { 200 }, "{path}");
            }
        }
        for headers in [&right, &scheme] {
            assert_eq!(call(address, "GET", "/connectors", headers, ""), (200, json!(["cars"])));
            assert_eq!(call(address, "GET", "/healthz", headers, "").0, 200);
        }
        assert_eq!(cars.control.status().state, TaskState::Running, "nobody paused it");
    }
}

#[test]
fn a_page_in_a_browser_cannot_steer_a_worker_without_a_token() {
    let cars = Cars::start(None, false);
    let from = "Origin: https://example.org\r\n";
    let (status, body) = call(cars.server.address(), "POST", "/connectors/cars/restart", from, "");
    assert_eq!((status, &body["error_code"]), (403, &json!(403)));
    assert_eq!(cars.control.status().tasks[0].n_restarts, 0);
    assert_eq!(call(cars.server.address(), "GET", "/healthz", from, "").0, 200);
}

/// It makes a name of its own lead to this machine, and then reads as from its own server, without an `Origin`.
#[test]
fn a_page_in_a_browser_cannot_read_by_a_name_that_it_has_turned_to_this_machine() {
    let cars = Cars::start(None, false);
    let read = |host: &str, path: &str| call(cars.server.address(), "GET", path, host, "").0;
    for host in [
        "rebound.example.org:9464",
        "localhost.example.org",
        "127.0.0.1.example.org:9464",
        "192.0.2.1",
        "[2001:db8::1]:80",
        "",
    ] {
        let host = format!("Host: {host}\r\n");
        for path in ["/connectors/cars/config", "/connectors/cars/status", "/audit", "/admin/loggers"] {
            assert_eq!(read(&host, path), 403, "{host} {path}");
        }
        assert_eq!(read(&host, "/healthz"), 200, "a probe asks by whatever name");
    }
    for host in ["localhost:9464", "LOCALHOST", "localhost.:1", "127.0.0.1", "127.8.9.1:80", "[::1]:9464", "[::1]"] {
        assert_eq!(read(&format!("Host: {host}\r\n"), "/connectors/cars/config"), 200, "{host}");
    }
    // Who knows the token may use any name.
    let cars = Cars::start(Some(TOKEN), false);
    let known = format!("Host: worker-7:9464\r\nAuthorization: Bearer {TOKEN}\r\n");
    assert_eq!(call(cars.server.address(), "GET", "/audit", &known, "").0, 200);
}

#[test]
fn an_endpoint_without_control_has_metrics_and_health_only() {
    let well = || Health { is_healthy: true, is_ready: true, detail: "idle".to_owned() };
    let server = http::serve("127.0.0.1:0".parse().unwrap(), Metrics::default(), Arc::new(well)).unwrap();
    for path in ["/", "/connectors", "/audit", "/admin/loggers"] {
        assert_eq!(call(server.address(), "GET", path, "", "").0, 404, "{path}");
    }
}
