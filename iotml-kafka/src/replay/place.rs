//! Where the dead letters are, and where they go back to.

use std::sync::Arc;

use iotml_core::error::ConfigError;
use iotml_core::plugin::config::{Config, LogTable, PluginTable, Secrets};
use iotml_core::plugin::{BuildContext, Registry};
use iotml_core::sink::Sink;

use super::arguments::Arguments;
use super::choice::Home;
use crate::client::KafkaProperties;
use crate::sink::KafkaSinkConfig;
use crate::source::is_topic_name;

/// Where the dead letters are, and what is known of the pipeline that wrote them.
pub(super) struct Place {
    pub topic: String,
    /// How to reach the cluster that has the topic.
    pub kafka: KafkaProperties,
    /// Where messages go back to.
    pub way: Way,
    /// The pipeline, where its configuration was given.
    pub pipeline: Option<String>,
    pub secrets: Secrets,
    pub log: LogTable,
}

/// Where messages go back to.
#[derive(Clone)]
pub(super) enum Way {
    /// To topics of this cluster: one for all, or each to where it came from.
    Kafka(KafkaProperties, Option<String>),
    /// To where a source of this table reads.
    Source(PluginTable),
}

impl Place {
    /// Takes it from the configuration, or else from the flags.
    pub fn find(arguments: &Arguments, registry: &Arc<Registry>) -> Result<Self, String> {
        let mut place = match (&arguments.config, &arguments.brokers) {
            (Some(file), _) => {
                let config = Config::load(file, registry).map_err(|mistakes| mistakes.to_string())?;
                Self::of_config(&config, arguments)?
            }
            (None, brokers) => Self::of_flags(brokers.as_deref().unwrap_or_default(), arguments),
        };
        if let Some(to) = &arguments.how.to {
            if !is_topic_name(to) {
                return Err(format!("--to {to:?} is not a name a Kafka topic can have"));
            }
            place.way = Way::Kafka(place.kafka.clone(), Some(to.clone()));
        }
        if !is_topic_name(&place.topic) {
            return Err(format!("{:?} is not a name a Kafka topic can have; name it with --topic", place.topic));
        }
        Ok(place)
    }

    fn of_flags(brokers: &str, arguments: &Arguments) -> Self {
        let mut kafka = KafkaProperties::new(brokers);
        for (name, value) in &arguments.properties {
            kafka = kafka.set(name, value);
        }
        let mut secrets = Secrets::default();
        kafka.secrets().for_each(|secret| secrets.add(secret));
        Self {
            topic: arguments.topic.clone().unwrap_or_default(),
            way: Way::Kafka(kafka.clone(), None),
            kafka,
            pipeline: None,
            secrets,
            log: LogTable { level: "warn".to_owned(), ..LogTable::default() },
        }
    }

    fn of_config(config: &Config, arguments: &Arguments) -> Result<Self, String> {
        let file = config.file.display();
        let Some(table) = &config.frame.dead_letter else {
            return Err(format!("{file} has no [dead_letter] table, so its pipeline writes no dead letters"));
        };
        if table.kind() != "kafka" {
            return Err(format!("dead letters of {file} go to a sink of type {:?}; replay reads Kafka", table.kind()));
        }
        let sink: KafkaSinkConfig = serde_json::from_value(table.settings())
            .map_err(|error| format!("{file}: [dead_letter] does not fit: {error}"))?;
        Ok(Self {
            topic: arguments.topic.clone().or(sink.topic).unwrap_or_default(),
            kafka: sink.kafka.connection(),
            way: Way::Source(config.frame.source.clone()),
            pipeline: Some(config.frame.pipeline.name.clone()),
            secrets: config.secrets().clone(),
            log: LogTable { level: "warn".to_owned(), ..config.frame.log.clone().unwrap_or_default() },
        })
    }
}

impl Way {
    /// What a message needs to go this way.
    pub fn home(&self) -> Home {
        match self {
            Way::Kafka(_, Some(_)) => Home::Fixed,
            Way::Kafka(_, None) => Home::Kafka,
            Way::Source(table) if table.kind() == "kafka" => Home::Kafka,
            Way::Source(_) => Home::Any,
        }
    }

    /// The sink at its end. Opens nothing.
    pub fn sink(&self, registry: &Registry, context: &BuildContext) -> Result<Arc<dyn Sink>, ConfigError> {
        match self {
            Way::Kafka(kafka, to) => {
                let config = KafkaSinkConfig { kafka: kafka.clone(), ..KafkaSinkConfig::new("", to.as_deref()) };
                crate::sink::build(config, context)
            }
            Way::Source(table) => match registry.ways_back.get(table.kind()) {
                Some(way) => way.build(table.settings(), context),
                None => Err(ConfigError::new(format!(
                    "there is no way back to where a source of type {:?} reads; name a topic of Kafka with --to",
                    table.kind()
                ))),
            },
        }
    }
}
