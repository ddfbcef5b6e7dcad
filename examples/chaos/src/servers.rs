//! The real servers of one run, started by `deploy/servers/servers` in a folder of their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use cars::process::Failure;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::process::Command;

use crate::plan::Broker;

/// Kafka and one MQTT broker. Dropping it stops them.
#[derive(Debug)]
pub struct Servers {
    folder: PathBuf,
    broker: Broker,
    kafka_proxies: [u16; 2],
}

/// A line of the fleet's `state.json`.
#[derive(Debug, Deserialize)]
struct Process {
    pid: i32,
    ports: BTreeMap<String, u16>,
}

/// Where the servers listen, all on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub mqtt: u16,
    /// For the harness itself.
    pub kafka: u16,
    /// For clients that are told to come by the first and second proxy.
    pub kafka_proxied: [u16; 2],
}

impl Servers {
    /// Starts them and waits until they serve. Clients of the proxied listeners of Kafka are told to come by `kafka_proxies`.
    pub async fn start(folder: &Path, broker: Broker, kafka_proxies: [u16; 2]) -> Result<(Self, Ports), Failure> {
        let servers = Self { folder: folder.to_owned(), broker, kafka_proxies };
        servers.run(&["up", "kafka", broker.name()]).await?;
        let (kafka, mqtt) = (servers.process("kafka")?, servers.process(broker.name())?);
        let port = |process: &Process, name: &str| process.ports.get(name).copied().ok_or(format!("no port {name}"));
        let ports = Ports {
            mqtt: port(&mqtt, "plain")?,
            kafka: port(&kafka, "client")?,
            kafka_proxied: [port(&kafka, "proxied_1")?, port(&kafka, "proxied_2")?],
        };
        Ok((servers, ports))
    }

    /// Stops the MQTT broker in good order and starts it again; returns when it serves.
    pub async fn restart_broker(&self) -> Result<(), Failure> {
        self.run(&["restart", self.broker.name()]).await
    }

    /// Stops Kafka, in good order or by kill -9, and starts it again; returns when it serves.
    pub async fn restart_kafka(&self, kill: bool) -> Result<(), Failure> {
        let how: &[&str] = if kill { &["restart", "--kill", "kafka"] } else { &["restart", "kafka"] };
        self.run(how).await
    }

    /// Stops Kafka's process in its tracks, or lets it go on.
    pub fn signal_kafka(&self, signal: Signal) -> Result<(), Failure> {
        let pid = Pid::from_raw(self.process("kafka")?.pid).ok_or("Kafka's process id is 0")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Copies what they have logged so far into `folder`, a file each.
    pub fn copy_logs(&self, folder: &Path) -> Result<(), Failure> {
        std::fs::create_dir_all(folder)?;
        for name in ["kafka", self.broker.name()] {
            std::fs::copy(self.folder.join(name).join("log"), folder.join(name).with_extension("log"))
                .map_err(|error| format!("the log of {name} cannot be kept: {error}"))?;
        }
        Ok(())
    }

    fn process(&self, name: &str) -> Result<Process, Failure> {
        let state = std::fs::read(self.folder.join("state.json"))?;
        let mut state: BTreeMap<String, Process> = serde_json::from_slice(&state)?;
        state.remove(name).ok_or_else(|| format!("{name} is not started").into())
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command =
            std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/servers/servers"));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let [first, second] = self.kafka_proxies;
        command
            .env("IOTML_SERVERS_DIR", &self.folder)
            .env("IOTML_KAFKA_PROXIES", format!("127.0.0.1:{first},127.0.0.1:{second}"))
            .env("IOTML_HIVEMQ_PERSISTENCE", "file");
        command
    }

    async fn run(&self, arguments: &[&str]) -> Result<(), Failure> {
        let output = Command::from(self.command(arguments)).output().await?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("servers {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()).into())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // One that hangs would not hear that it is to stop.
        let _ = self.signal_kafka(Signal::CONT);
        let _ = self.command(&["down"]).status();
    }
}
