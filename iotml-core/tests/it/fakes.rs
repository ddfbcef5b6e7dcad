//! The conformance suites of source and sink, run by the fakes first.

use std::sync::Arc;

use iotml_core::async_trait;
use iotml_core::error::{Cause, Reason};
use iotml_core::sink::Sink;
use iotml_core::source::Source;
use iotml_core::testing::sink::{SinkHarness, Stored};
use iotml_core::testing::source::SourceHarness;
use iotml_core::testing::{MemoryLog, MemorySink, sink, source};

struct Memory(MemoryLog);

#[async_trait]
impl SourceHarness for Memory {
    async fn source(&mut self) -> Box<dyn Source> {
        Box::new(self.0.source(7))
    }

    async fn publish(&mut self, payloads: &[Vec<u8>]) {
        self.0.publish(payloads);
    }

    async fn publish_unusable(&mut self) -> Option<Reason> {
        self.0.refuse(b"unusable", Cause::new(Reason::Oversized, "as scripted"));
        self.0.publish([b"unusable"]);
        Some(Reason::Oversized)
    }
}

#[tokio::test]
async fn the_memory_source_conforms() {
    source::conforms(&mut Memory(MemoryLog::default())).await;
}

struct MemoryFar(Arc<MemorySink>);

#[async_trait]
impl SinkHarness for MemoryFar {
    async fn sink(&mut self) -> Arc<dyn Sink> {
        self.0.clone()
    }

    async fn stored(&mut self, n: usize) -> Vec<Stored> {
        self.0.wait_for(n).await;
        let stored = self.0.stored();
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        (0..stored.len())
            .map(|row| Stored { key: owned(stored.key(row)), payload: owned(stored.payload(row)) })
            .collect()
    }
}

#[tokio::test]
async fn the_memory_sink_conforms() {
    sink::conforms(&mut MemoryFar(MemorySink::with_max_in_flight(4))).await;
    sink::conforms(&mut MemoryFar(MemorySink::new())).await;
}
