//! A sink that stalls for long: the connection lives, memory is bounded, and everything is delivered afterwards. The pipeline is a
//! process of its own, so that its memory is its own: this test binary, when the environment says so.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use iotml_core::async_trait;
use iotml_core::decode::PassThrough;
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::{Pipeline, PipelineOptions, PipelineSpec, Route, TaskStages};
use iotml_core::plugin::{ByteSize, HumanDuration};
use iotml_core::sink::{Outgoing, Sink, SinkError, Written};
use iotml_mqtt::source::TopicConfig;
use iotml_mqtt::{MqttSource, MqttSourceConfig};
use rumqttc::{PublishProperties, QoS};
use tokio::sync::watch;

use crate::broker::{Broker, unique};
use crate::publisher::Publisher;

/// Server, topic, client id and number of messages, one a line, for the process that is the pipeline. The end of its input ends
/// the stall.
const CHILD: &str = "IOTML_TEST_STALL";

/// Seconds that the sink stalls, where the environment asks for more than the usual.
const SECONDS: &str = "IOTML_STALL_SECONDS";

const KEEP_ALIVE: Duration = Duration::from_secs(2);
const MESSAGE_BYTES: usize = 100_000;
const N_MESSAGES: usize = 1_500;

/// What the pipeline may hold: 8 MiB in flight, and 4 MiB received and not yet taken.
const IN_FLIGHT: usize = 8 << 20;
const BUFFER: usize = 4 << 20;

/// Beyond the two bounds: one batch by which each may be passed (4 MiB), what the client has read of the socket before it stops
/// (128 packets), and the allocator.
const SLACK: usize = 2 * (4 << 20) + 128 * MESSAGE_BYTES + (12 << 20);

/// Takes nothing until it may.
struct Stalled {
    may: watch::Receiver<bool>,
    is_asked: AtomicBool,
    numbers: Mutex<HashSet<Vec<u8>>>,
}

#[async_trait]
impl Sink for Stalled {
    async fn write(&self, rows: Outgoing) -> Result<Written, SinkError> {
        if !self.is_asked.swap(true, Ordering::SeqCst) {
            println!("stalled");
        }
        self.may.clone().wait_for(|may| *may).await.unwrap();
        let mut numbers = self.numbers.lock().unwrap();
        for row in 0..rows.len() {
            let payload = rows.messages.payload(row).unwrap();
            assert_eq!(payload.len(), MESSAGE_BYTES);
            numbers.insert(payload[..8].to_vec());
        }
        Ok(Written::default())
    }
}

/// In the process that is the pipeline: runs until all has been delivered, and says what it counted. Elsewhere nothing.
#[test]
fn child() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let told: Vec<&str> = told.lines().collect();
    let n = told[3].parse().unwrap();
    let (let_go, may) = watch::channel(false);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let_go.send_replace(true)
    });
    let mut config = MqttSourceConfig::new(told[0], TopicConfig::new(format!("{}/#", told[1])));
    config.client_id = Some(told[2].into());
    config.connection.keep_alive = HumanDuration(KEEP_ALIVE);
    config.max_buffer_bytes = ByteSize(BUFFER);
    config.receive_maximum = 10_000;
    let sink = Arc::new(Stalled { may, is_asked: false.into(), numbers: Mutex::default() });
    let out = sink.clone();
    let mut spec = PipelineSpec::new("stall", move |_| {
        let source = Box::new(MqttSource::new(config.clone())?);
        Ok(TaskStages::new(source, Box::new(PassThrough), vec![Route::required("out", None, out.clone())]))
    });
    spec.options = PipelineOptions { max_in_flight_bytes: IN_FLIGHT, ..PipelineOptions::default() };
    let metrics = Metrics::default();
    let handle = Pipeline::start(spec, metrics.clone()).unwrap();
    println!("runs");
    while sink.numbers.lock().unwrap().len() < n {
        assert!(!handle.is_finished(), "the pipeline ended: {:?}", handle.wait());
        std::thread::sleep(Duration::from_millis(5));
    }
    handle.stop();
    let audit = handle.wait().unwrap().audit;
    let text = metrics.text().unwrap();
    let count = |name: &str| {
        let prefix = format!("iotml_source_mqtt_{name}_total");
        text.lines().find(|line| line.starts_with(&prefix)).and_then(|line| line.rsplit(' ').next()).unwrap().to_owned()
    };
    println!("delivered {} {} {}", audit.delivered, count("reconnects"), count("lost_sessions"));
}

/// Resident memory of a process in bytes.
fn resident(child: &Child) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.trim().parse::<usize>().ok());
    kib.unwrap_or(0) << 10
}

fn payload(number: usize) -> Vec<u8> {
    let mut payload = format!("{number:08}").into_bytes();
    payload.resize(MESSAGE_BYTES, b'.');
    payload
}

async fn stalled(broker: Broker) {
    // Four times as long as a broker waits for a client that has gone silent (one and a half keep-alives).
    let stall = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok()).unwrap_or(12u64);
    let (topic, client_id) = (unique("stall"), unique("client"));
    let told = [broker.address(), topic.clone(), client_id, N_MESSAGES.to_string()].join("\n");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "stall::child", "--nocapture", "--quiet"])
        .env(CHILD, told)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (tell, mut lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
    let mut wait_for = async |word: &str| {
        let found = async {
            loop {
                let line = lines.recv().await.unwrap_or_else(|| panic!("the child ended without {word:?}"));
                if let Some(rest) = line.strip_prefix(word) {
                    return rest.trim().to_owned();
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(stall + 120), found).await.unwrap_or_else(|_| panic!("no {word:?}"))
    };
    wait_for("runs").await;
    let mut publisher = Publisher::connect(&broker.address()).await;
    let publish = async |publisher: &mut Publisher, number| {
        let properties = PublishProperties::default();
        publisher.publish_with(&format!("{topic}/a"), payload(number), QoS::AtLeastOnce, false, properties).await;
    };
    // Warm: the first message has made every buffer there will be, but for those of a stall.
    publish(&mut publisher, 0).await;
    wait_for("stalled").await;
    let before = resident(&child);
    let began = Instant::now();
    let mut peak = before;
    for number in 1..N_MESSAGES {
        publish(&mut publisher, number).await;
        peak = peak.max(resident(&child));
    }
    // From now on nothing happens but what keeps the connection alive.
    let quiet = Instant::now();
    while quiet.elapsed() < Duration::from_secs(stall) {
        peak = peak.max(resident(&child));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let stalled = began.elapsed();
    drop(child.stdin.take());
    let told = wait_for("delivered").await;
    assert!(child.wait().unwrap().success());
    let counts: Vec<u64> = told.split(' ').map(|count| count.parse().unwrap()).collect();
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    println!(
        "stalled {:.0} s with {:.0} MiB published: {:.0} MiB resident before, {:.0} at most (bound {:.0} more); delivered {}, \
         {} reconnects, {} lost sessions",
        stalled.as_secs_f64(),
        mib(N_MESSAGES * MESSAGE_BYTES),
        mib(before),
        mib(peak),
        mib(IN_FLIGHT + BUFFER + SLACK),
        counts[0],
        counts[1],
        counts[2],
    );
    assert_eq!(counts, [N_MESSAGES as u64, 0, 0], "each once, over one connection in one session");
    assert!(peak - before < IN_FLIGHT + BUFFER + SLACK, "{:.0} MiB more than before", mib(peak - before));
}

// Not on the embedded broker: while it cannot write to a client it does not read from it either, so nothing keeps that one alive.

#[tokio::test]
async fn inv_5_and_6_a_sink_that_stalls_costs_neither_the_connection_nor_memory_on_mosquitto() {
    if let Some(broker) = Broker::mosquitto() {
        stalled(broker).await;
    }
}

#[tokio::test]
async fn inv_5_and_6_a_sink_that_stalls_costs_neither_the_connection_nor_memory_on_hivemq() {
    if let Some(broker) = Broker::hivemq() {
        stalled(broker).await;
    }
}
