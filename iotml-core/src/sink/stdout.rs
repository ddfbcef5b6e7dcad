//! `stdout`: one line of JSON a row on standard output.

use std::io::{self, Write};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::{Outgoing, Sink, SinkError, Written};
use crate::batch::Messages;
use crate::pipeline::TaskContext;

/// Configuration of [`StdoutSink`]; there is nothing to configure.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StdoutSinkConfig {}

/// Writes one line a row: the payload if it is JSON, otherwise `{"key": ..., "payload_base64": ...}`, with `key_base64` in
/// the place of `key` where the key is not UTF-8, and null for a key or payload that is not there.
///
/// The rows of one write stay together. A write is done when it is flushed. A reader that went away ends the task; one
/// that is slow holds up this sink, and not the thread of the pipeline.
pub struct StdoutSink {
    make: Arc<dyn Fn() -> Box<dyn Write> + Send + Sync>,
    writer: Mutex<Option<Sender<Job>>>,
}

/// Lines to write, and whom to tell.
type Job = (Vec<u8>, oneshot::Sender<io::Result<()>>);

impl StdoutSink {
    /// A sink that opens standard output when it is opened.
    pub fn new(_: StdoutSinkConfig) -> Self {
        Self::with(|| Box::new(io::stdout().lock()))
    }

    /// A sink to what `make` gives for each write, which holds it for as long.
    fn with(make: impl Fn() -> Box<dyn Write> + Send + Sync + 'static) -> Self {
        Self { make: Arc::new(make), writer: Mutex::default() }
    }

    /// Hands the lines to the thread that writes. Its place in the order is fixed here.
    fn submit(&self, lines: Vec<u8>) -> Result<oneshot::Receiver<io::Result<()>>, SinkError> {
        let (done, answer) = oneshot::channel();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = writer.as_ref().map(|writer| writer.send((lines, done)));
        match sent {
            Some(Ok(())) => Ok(answer),
            _ => Err(SinkError::fatal("standard output is not open")),
        }
    }
}

#[async_trait]
impl Sink for StdoutSink {
    async fn open(&self, _: &TaskContext) -> Result<(), SinkError> {
        let (writer, jobs) = channel::<Job>();
        let make = self.make.clone();
        // A thread of its own, because a full pipe blocks for as long as its reader likes.
        let spawned = thread::Builder::new().name("stdout".to_owned()).spawn(move || {
            for (lines, done) in jobs {
                let mut output = make();
                // Nobody asks any more after a cancelled write.
                let _ = done.send(output.write_all(&lines).and_then(|()| output.flush()));
            }
        });
        spawned.map_err(|source| SinkError::fatal_from("no thread for standard output can be started", source))?;
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
        Ok(())
    }

    async fn write(&self, rows: Outgoing) -> Result<Written, SinkError> {
        let mut lines = Vec::new();
        for row in 0..rows.len() {
            push_line(&rows.messages, row, &mut lines);
        }
        match self.submit(lines)?.await {
            Ok(Ok(())) => Ok(Written::default()),
            Ok(Err(source)) if source.kind() == io::ErrorKind::BrokenPipe => {
                Err(SinkError::fatal_from("the reader of standard output has gone away", source))
            }
            Ok(Err(source)) => Err(SinkError::fatal_from(format!("standard output failed: {source}"), source)),
            Err(_) => Err(SinkError::fatal("the thread that writes to standard output has ended")),
        }
    }

    async fn close(&self) -> Result<(), SinkError> {
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }
}

fn push_line(messages: &Messages, row: usize, lines: &mut Vec<u8>) {
    let payload = messages.payload(row);
    match payload {
        Some(payload) if serde_json::from_slice::<IgnoredAny>(payload).is_ok() && str::from_utf8(payload).is_ok() => {
            // In valid JSON a line break stands only between tokens.
            lines.extend(payload.iter().filter(|byte| !matches!(byte, b'\n' | b'\r')));
        }
        payload => {
            let (key, base64) = (messages.key(row), |bytes: &[u8]| Value::from(STANDARD.encode(bytes)));
            let (name, key) = match key.map(str::from_utf8) {
                None => ("key", Value::Null),
                Some(Ok(text)) => ("key", Value::from(text)),
                Some(Err(_)) => ("key_base64", key.map_or(Value::Null, base64)),
            };
            let payload = payload.map_or(Value::Null, base64);
            let line = Map::from_iter([(name.to_owned(), key), ("payload_base64".to_owned(), payload)]);
            lines.extend_from_slice(Value::Object(line).to_string().as_bytes());
        }
    }
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};

    use super::*;
    use crate::batch::Message;
    use crate::error::Class;
    use crate::testing::sink::{SinkHarness, Stored, conforms, outgoing};

    /// A shared buffer in the place of standard output.
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[async_trait]
    impl SinkHarness for Buffer {
        async fn sink(&mut self) -> Arc<dyn Sink> {
            let buffer = self.clone();
            Arc::new(StdoutSink::with(move || Box::new(buffer.clone())))
        }

        async fn stored(&mut self, n: usize) -> Vec<Stored> {
            loop {
                let lines = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
                if lines.lines().count() >= n {
                    let bytes = |text: &Value| STANDARD.decode(text.as_str().unwrap()).unwrap();
                    let stored = |line: &str| {
                        let line: Value = serde_json::from_str(line).unwrap();
                        let key = line["key"].as_str().map(|key| key.as_bytes().to_vec());
                        Stored { key, payload: Some(bytes(&line["payload_base64"])) }
                    };
                    return lines.lines().map(stored).collect();
                }
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn conforms_to_the_contract_of_a_sink() {
        conforms(&mut Buffer::default()).await;
    }

    #[tokio::test]
    async fn a_reader_that_went_away_is_fatal() {
        let (mut reader, writer) = pipe().unwrap();
        let sink = StdoutSink::with(move || Box::new(writer.try_clone().unwrap()));
        sink.open(&TaskContext::single("test")).await.unwrap();
        sink.write(outgoing(0..1)).await.unwrap();
        let mut first = [0; 1];
        reader.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"{");
        drop(reader);
        let error = sink.write(outgoing(1..2)).await.unwrap_err();
        assert_eq!(error.class(), Class::Fatal);
        assert_eq!(error.to_string(), "the reader of standard output has gone away");
    }

    #[tokio::test]
    async fn inv_5_a_reader_that_is_slow_does_not_hold_up_the_thread() {
        let (mut reader, writer) = pipe().unwrap();
        let sink = StdoutSink::with(move || Box::new(writer.try_clone().unwrap()));
        sink.open(&TaskContext::single("test")).await.unwrap();
        // More than a pipe holds, so the write cannot end before somebody reads, on this very thread.
        let mut write = Box::pin(sink.write(outgoing(0..9_999)));
        tokio::select! {
            biased;
            _ = &mut write => panic!("written although nobody reads"),
            () = tokio::task::yield_now() => {}
        }
        let read = tokio::task::spawn_blocking(move || {
            let mut lines = Vec::new();
            io::BufRead::lines(io::BufReader::new(&mut reader)).take(9_999).for_each(|line| lines.push(line.unwrap()));
            lines.len()
        });
        write.await.unwrap();
        assert_eq!(read.await.unwrap(), 9_999);
    }

    fn lines(messages: &[Message<'_>]) -> String {
        let mut all = Messages::default();
        messages.iter().for_each(|message| all.push(*message));
        let mut lines = Vec::new();
        (0..all.len()).for_each(|row| push_line(&all, row, &mut lines));
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn json_stays_as_it_is_on_one_line() {
        let json = |payload: &'static str| Message { payload: Some(payload.as_bytes()), ..Message::default() };
        let got = lines(&[json("{\"a\":\r\n [1.50,\n\"x\\ny\"]}"), json("7"), json("\"é\"")]);
        assert_eq!(got, "{\"a\": [1.50,\"x\\ny\"]}\n7\n\"é\"\n");
    }

    #[test]
    fn anything_else_comes_in_base64_with_its_key() {
        let got = lines(&[
            Message { payload: Some(b"\x00\xff"), key: Some(b"car-\"1\""), ..Message::default() },
            Message { payload: None, key: Some(b"\xff"), ..Message::default() },
            Message { payload: Some(b""), ..Message::default() },
            Message { payload: Some(b"{\"half\":"), ..Message::default() },
            Message { payload: Some(b"\"\xff\""), ..Message::default() },
        ]);
        let want = [
            r#"{"key":"car-\"1\"","payload_base64":"AP8="}"#,
            r#"{"key_base64":"/w==","payload_base64":null}"#,
            r#"{"key":null,"payload_base64":""}"#,
            r#"{"key":null,"payload_base64":"eyJoYWxmIjo="}"#,
            r#"{"key":null,"payload_base64":"Iv8i"}"#,
        ];
        assert_eq!(got.lines().collect::<Vec<_>>(), want);
    }
}
