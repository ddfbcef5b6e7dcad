//! What a worker says in its log.

use std::path::Path;
use std::sync::Mutex;

use iotml_core::pipeline::Audit;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::ChildStderr;

use crate::worker::{Seen, lock, memory};

/// Copies the log of a process to a file, and takes note of what it says.
pub async fn follow(stderr: ChildStderr, log: &Path, pid: Option<u32>, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let mut file = tokio::fs::File::options().create(true).append(true).open(log).await?;
    let mut lines = BufReader::new(stderr).lines();
    while let Some(line) = lines.next_line().await? {
        file.write_all(line.as_bytes()).await?;
        file.write_all(b"\n").await?;
        file.flush().await?;
        note(&line, pid, &mut lock(seen));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    message: String,
    level: String,
    audit: Option<String>,
    address: Option<String>,
    #[serde(default)]
    is_drained: Option<bool>,
}

fn note(line: &str, pid: Option<u32>, seen: &mut Seen) {
    let Ok(said) = serde_json::from_str::<Line>(line) else {
        seen.now.last_words = line.to_owned();
        return;
    };
    if said.level == "ERROR" {
        seen.now.last_words = said.message.clone();
    }
    if let (Some(address), true) = (said.address, said.message.starts_with("metrics and health")) {
        seen.now.http = Some(address);
    } else if said.message == "the pipeline runs" {
        seen.now.is_ready = true;
        seen.n_ready += 1;
        if let Some(rss) = pid.and_then(|pid| memory(pid, "VmRSS:")) {
            seen.idle_rss = seen.idle_rss.max(rss);
        }
    } else if said.message.contains("no longer has the session") {
        seen.n_lost_sessions += 1;
    } else if let (Some(audit), Some(true), "ended") = (said.audit, said.is_drained, said.message.as_str()) {
        seen.now.ended = parse(&audit);
    }
}

/// Reads a balance as the worker prints it.
fn parse(text: &str) -> Option<Audit> {
    let number = |name: &str| text.split(name).nth(1)?.split_whitespace().next()?.parse().ok();
    // Only said where it happened.
    let returned = if text.contains("returned ") { number("returned ")? } else { 0 };
    Some(Audit {
        received: number("received ")?,
        delivered: number("delivered ")?,
        dead_lettered: number("dead-lettered ")?,
        filtered: number("filtered ")?,
        skipped: number("skipped ")?,
        returned,
        in_flight: number("in flight ")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balance_is_read_as_it_is_printed() {
        let audit =
            Audit { received: 60, delivered: 50, dead_lettered: 4, filtered: 3, skipped: 2, returned: 0, in_flight: 1 };
        assert_eq!(parse(&audit.to_string()), Some(audit));
        let other = Audit { received: 61, returned: 7, ..audit };
        assert_eq!(parse(&other.to_string()), Some(other));
        assert_eq!(parse("received nothing"), None);
    }
}
