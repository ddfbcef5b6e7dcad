//! What a run does.

use clap::Args;
use iotml_core::plugin::ByteSize;
use iotml_kafka::KafkaModelFeedConfig;
use iotml_model::precheck::Limits;
use iotml_model::store::StoreOptions;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use crate::Failure;

/// What a run does.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    /// The brokers.
    #[arg(long, env = "IOTML_KAFKA")]
    pub kafka: String,
    /// What the names of all topics begin with.
    #[arg(long, default_value_t = format!("swap-{}", std::process::id()))]
    pub prefix: String,
    /// Changes of models.
    #[arg(long, default_value_t = 1000)]
    pub swaps: u32,
    /// Tasks of the pipeline, each with a partition or more.
    #[arg(long, default_value_t = 2)]
    pub tasks: usize,
    /// Partitions of the topics.
    #[arg(long, default_value_t = 4)]
    pub partitions: i32,
    /// Seconds without a change, to compare with.
    #[arg(long, default_value_t = 20)]
    pub quiet: u64,
    /// The store into which models are put; credentials come from the environment. Without one they are sent inline.
    #[arg(long)]
    pub store: Option<String>,
    /// The size of a model.
    #[arg(long, default_value = "5KiB")]
    pub model_size: ByteSize,
}

impl Plan {
    pub fn of(&self, what: &str) -> String {
        format!("{}-{what}", self.prefix)
    }

    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka);
        config
    }

    pub fn feed(&self) -> KafkaModelFeedConfig {
        let mut config = KafkaModelFeedConfig::new(&self.kafka);
        (config.topic, config.status_topic) = (self.of("models"), self.of("status"));
        config
    }

    /// What a model may have beside its weights.
    pub fn limits(&self) -> Limits {
        let n = self.model_size.0 as u64;
        Limits { max_bytes: n + 10_000, ..Limits::default() }
    }

    pub fn store_options(&self) -> StoreOptions {
        StoreOptions { limits: self.limits(), ..StoreOptions::default() }
    }

    pub fn create(&self) -> Result<(), Failure> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let names = ["in", "out"].map(|what| self.of(what));
        let topics = names.each_ref().map(|name| NewTopic::new(name, self.partitions, TopicReplication::Fixed(1)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        for created in runtime.block_on(admin.create_topics(&topics, &AdminOptions::new()))? {
            created.map_err(|(name, code)| format!("topic {name}: {code}"))?;
        }
        Ok(())
    }

    /// The same as arguments of a process.
    pub fn arguments(&self) -> Vec<String> {
        let Plan { kafka, prefix, swaps, tasks, partitions, quiet, store, model_size } = self;
        let mut arguments = vec![
            format!("--kafka={kafka}"),
            format!("--prefix={prefix}"),
            format!("--swaps={swaps}"),
            format!("--tasks={tasks}"),
            format!("--partitions={partitions}"),
            format!("--quiet={quiet}"),
            format!("--model-size={model_size}"),
        ];
        arguments.extend(store.as_ref().map(|url| format!("--store={url}")));
        arguments
    }
}
