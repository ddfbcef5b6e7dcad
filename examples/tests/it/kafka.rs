//! A Kafka of a test's own, which bad things may happen to.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::checkout;

/// Dropping it stops it.
pub struct Kafka {
    folder: TempDir,
}

/// What may happen to it.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// It is stopped in good order and started again.
    Restart,
    /// It is killed and started again.
    Kill,
    /// It does not answer for so long.
    Hang(Duration),
    /// It is killed, and started again after so long.
    Away(Duration),
}

impl Kafka {
    /// Starts it, and waits until it serves.
    pub fn start() -> Self {
        let kafka = Self { folder: tempfile::tempdir().unwrap() };
        kafka.servers(&["up", "kafka"]);
        kafka
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.process()["ports"]["client"])
    }

    /// Returns when it is over and Kafka serves again.
    pub fn suffer(&self, fault: Fault) {
        println!("kafka: {fault:?}");
        match fault {
            Fault::Restart => self.servers(&["restart", "kafka"]),
            Fault::Kill => self.servers(&["restart", "--kill", "kafka"]),
            Fault::Hang(time) => {
                self.signal("-STOP");
                thread::sleep(time);
                self.signal("-CONT");
            }
            Fault::Away(time) => {
                self.signal("-KILL");
                thread::sleep(time);
                self.servers(&["restart", "--kill", "kafka"]);
            }
        }
    }

    fn process(&self) -> Value {
        let state = std::fs::read(self.folder.path().join("state.json")).unwrap();
        serde_json::from_slice::<Value>(&state).unwrap()["kafka"].take()
    }

    fn signal(&self, name: &str) {
        let pid = self.process()["pid"].to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    fn servers(&self, arguments: &[&str]) {
        let output = command(self.folder.path(), arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = command(self.folder.path(), &["down"]).output();
    }
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(checkout().join("deploy/servers/servers"));
    command.args(arguments).env("IOTML_SERVERS_DIR", folder);
    command
}
