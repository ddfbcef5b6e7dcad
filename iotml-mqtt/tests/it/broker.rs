//! The brokers that tests run against.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use iotml_core::testing::servers;
use iotml_mqtt::embedded::EmbeddedBroker;

/// A broker to test against.
pub enum Broker {
    Embedded(EmbeddedBroker),
    /// `host:port` of a real one.
    Real(String),
}

impl Broker {
    pub fn embedded() -> Self {
        Self::Embedded(EmbeddedBroker::start().expect("the embedded broker starts"))
    }

    /// `None` where the server is not there, which says that the test skips.
    pub fn mosquitto() -> Option<Self> {
        servers::mosquitto().map(Self::Real)
    }

    /// `None` where the server is not there, which says that the test skips.
    pub fn hivemq() -> Option<Self> {
        servers::hivemq().map(Self::Real)
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        match self {
            Self::Embedded(broker) => broker.address(),
            Self::Real(address) => address.clone(),
        }
    }
}

/// A name that no other test and no other run uses.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    format!("{what}-{:x}-{}-{}", since.as_nanos(), std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Declares the same test for every broker; `$run` is an async function of the broker.
macro_rules! on_every_broker {
    ($($(#[$doc:meta])* $name:ident => $run:expr;)*) => {
        mod embedded {
            use super::*;
            $($(#[$doc])* #[tokio::test]
            async fn $name() {
                $run($crate::broker::Broker::embedded()).await;
            })*
        }
        mod mosquitto {
            use super::*;
            $($(#[$doc])* #[tokio::test]
            async fn $name() {
                if let Some(broker) = $crate::broker::Broker::mosquitto() {
                    $run(broker).await;
                }
            })*
        }
        mod hivemq {
            use super::*;
            $($(#[$doc])* #[tokio::test]
            async fn $name() {
                if let Some(broker) = $crate::broker::Broker::hivemq() {
                    $run(broker).await;
                }
            })*
        }
    };
}
pub(crate) use on_every_broker;
