//! The endpoint of metrics and health, asked by a plain TCP client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use iotml_core::http::{self, HttpError};
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::Health;

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// The whole answer to a GET: head and body.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    get_as(address, path, "*/*")
}

fn get_as(address: SocketAddr, path: &str, accept: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("Host: {address}\r\nAccept: {accept}\r\nConnection: close");
    write!(stream, "GET {path} HTTP/1.1\r\n{head}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn well() -> Health {
    Health { is_healthy: true, is_ready: true, detail: "idle".to_owned() }
}

#[test]
fn metrics_come_in_the_format_the_client_accepts() {
    let metrics = Metrics::default();
    metrics.counter("iotml_source_rows", "Rows.", &[("pipeline", "p")]).inc_by(3);
    let server = http::serve(ANY_PORT, metrics, Arc::new(well)).unwrap();
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
    let answer = get_as(server.address(), "/metrics", accept);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let content_type = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    assert!(answer.contains(content_type), "{answer}");
    assert!(answer.contains("\niotml_source_rows_total{pipeline=\"p\"} 3\n"), "{answer}");
    assert!(answer.ends_with("# EOF\n"), "{answer}");

    let answer = get(server.address(), "/metrics");
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    assert!(
        answer.contains("\n# TYPE iotml_source_rows_total counter\niotml_source_rows_total{pipeline=\"p\"} 3\n"),
        "{answer}"
    );
    assert!(!answer.contains("# EOF"), "{answer}");
    assert!(get(server.address(), "/other").starts_with("HTTP/1.1 404"), "no other page");
}

#[test]
fn health_and_readiness_are_apart() {
    let health = Arc::new(Mutex::new(Health { is_ready: false, detail: "starting".to_owned(), ..well() }));
    let asked = health.clone();
    let server = http::serve(ANY_PORT, Metrics::default(), Arc::new(move || asked.lock().unwrap().clone())).unwrap();
    let healthz = get(server.address(), "/healthz");
    assert!(healthz.starts_with("HTTP/1.1 200 OK\r\n") && healthz.ends_with("\r\n\r\nstarting\n"), "{healthz}");
    assert!(get(server.address(), "/readyz").starts_with("HTTP/1.1 503 "), "not ready while starting");

    *health.lock().unwrap() = well();
    assert!(get(server.address(), "/readyz").starts_with("HTTP/1.1 200 "), "ready and idle");

    *health.lock().unwrap() = Health { is_healthy: false, detail: "FAILED: no such topic".to_owned(), ..well() };
    let healthz = get(server.address(), "/healthz");
    assert!(healthz.starts_with("HTTP/1.1 503 ") && healthz.contains("no such topic"), "{healthz}");
}

#[test]
fn a_port_in_use_is_a_clear_error() {
    let taken = TcpListener::bind(ANY_PORT).unwrap();
    let address = taken.local_addr().unwrap();
    let error = http::serve(address, Metrics::default(), Arc::new(well)).unwrap_err();
    assert!(matches!(error, HttpError::InUse(at) if at == address));
    assert!(error.to_string().starts_with(&format!("{address} is in use; stop the other process")), "{error}");
    let elsewhere: SocketAddr = "192.0.2.1:9464".parse().unwrap();
    let error = http::serve(elsewhere, Metrics::default(), Arc::new(well)).unwrap_err();
    assert!(error.to_string().starts_with("cannot listen on 192.0.2.1:9464; choose"), "{error}");
}

#[test]
fn dropping_the_server_frees_its_port_even_with_a_client_in_the_middle_of_a_request() {
    let server = http::serve(ANY_PORT, Metrics::default(), Arc::new(well)).unwrap();
    let address = server.address();
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"GET /metrics HT").unwrap();
    // The server has the connection once it answers another one.
    assert!(get(address, "/healthz").starts_with("HTTP/1.1 200"));
    drop(server);
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn promtool_finds_nothing_to_say_about_the_metrics() {
    let Some(promtool) = iotml_core::testing::servers::server("IOTML_PROMTOOL") else { return };
    let metrics = Metrics::default().with(&[("pipeline", "p")]);
    metrics.counter("iotml_source_rows", "Rows.", &[]).inc();
    metrics.gauge("iotml_pipeline_in_flight_rows", "Rows in flight.", &[]).set(2);
    metrics.latency("iotml_sink_write_seconds", "From the call of write to durable.", &[]).observe(0.1);
    let server = http::serve(ANY_PORT, metrics, Arc::new(well)).unwrap();
    let answer = get(server.address(), "/metrics");
    let (_, text) = answer.split_once("\r\n\r\n").unwrap();
    let mut checking = Command::new(promtool);
    checking.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut checking = checking.spawn().unwrap();
    checking.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = checking.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && words.is_empty(), "{words}\n{text}");
}
