//! What every step agrees on: servers, topics, amounts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use crate::Failure;

/// Servers, topics, amounts.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    /// Kafka, host:port.
    #[arg(long, env = "IOTML_KAFKA", global = true)]
    pub kafka: String,
    /// Base address of the schema registry.
    #[arg(long, env = "IOTML_REGISTRY", global = true)]
    pub registry: String,
    /// Records.
    #[arg(long, default_value_t = 2_000_000, global = true)]
    pub records: u64,
    /// Partitions of the input and of every output.
    #[arg(long, default_value_t = 10, global = true)]
    pub partitions: i32,
    /// Interleaved runs.
    #[arg(long, default_value_t = 5, global = true)]
    pub runs: u32,
    /// Start of the names of all topics; new for every call by default.
    #[arg(long, default_value_t = fresh_prefix(), global = true)]
    pub prefix: String,
    /// The model.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/cars/cars-autoencoder.onnx"), global = true)]
    pub model: PathBuf,
    /// The pipeline delivers exactly once.
    #[arg(long, global = true)]
    pub exactly_once: bool,
    /// The pipeline follows models on a topic.
    #[arg(long, global = true)]
    pub rollouts: Option<Rollouts>,
    /// Rows scored at once.
    #[arg(long, default_value_t = 1_000, global = true)]
    pub batch: usize,
}

/// What is announced beside the model that scores all rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rollouts {
    /// Nothing.
    Full,
    /// A canary of 10 % of the keys.
    Canary,
    /// A shadow, whose scores are written to a topic of its own.
    Shadow,
    /// A shadow without a route: it scores, and nobody reads it.
    Unread,
}

fn fresh_prefix() -> String {
    format!("bench-{}", std::process::id())
}

impl Plan {
    /// The topic that all read.
    pub fn input(&self) -> String {
        // Runs have prefixes of their own behind a dot, and read the same input.
        format!("{}-input", self.prefix.split('.').next().unwrap_or_default())
    }

    /// The topic that one of them writes.
    pub fn output(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// The same plan with outputs of its own.
    pub fn for_run(&self, run: u32) -> Plan {
        Plan { prefix: format!("{}.{run}", self.prefix), ..self.clone() }
    }

    /// The plan as arguments for a step.
    pub fn arguments(&self) -> Vec<String> {
        let pairs: BTreeMap<&str, String> = BTreeMap::from([
            ("--kafka", self.kafka.clone()),
            ("--registry", self.registry.clone()),
            ("--records", self.records.to_string()),
            ("--partitions", self.partitions.to_string()),
            ("--prefix", self.prefix.clone()),
            ("--model", self.model.display().to_string()),
            ("--batch", self.batch.to_string()),
        ]);
        let flag = self.exactly_once.then(|| "--exactly-once".to_owned());
        let rollouts = self.rollouts.and_then(|rollouts| rollouts.to_possible_value());
        let flag = flag.into_iter().chain(rollouts.map(|value| format!("--rollouts={}", value.get_name())));
        pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).chain(flag).collect()
    }

    /// A client configuration with the broker set.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka);
        config
    }

    /// Creates the output topic of one of them, so that none pays for it.
    pub fn create_output(&self, name: &str) -> Result<(), Failure> {
        self.create(&self.output(name))
    }

    /// Creates a topic with the plan's partitions.
    pub fn create(&self, topic: &str) -> Result<(), Failure> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let new = NewTopic::new(topic, self.partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        for created in runtime.block_on(admin.create_topics([&new], &options))? {
            created.map_err(|(topic, code)| format!("topic {topic} cannot be created: {code}"))?;
        }
        Ok(())
    }
}
