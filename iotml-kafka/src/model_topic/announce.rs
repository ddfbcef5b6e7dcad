//! Announcing, and looking at what is announced and reported.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use iotml_core::error::BoxError;
use iotml_core::model::{Announcer, ModelDrift, ModelSet, ModelStatus, SetError};
use serde::de::DeserializeOwned;

use super::config::KafkaModelFeedConfig;
use super::error::ModelTopicError;
use super::read::{ONCE, Reader};
use super::turn::Turn;
use super::value::Values;
use super::writer::Writer;

/// How often a change is made anew because others changed the same model meanwhile.
const MAX_TRIES: u32 = 5;

/// The topic from the side of whoever announces. Calls connect by themselves, and may wait as long as the configuration says.
#[derive(Debug)]
pub struct ModelTopic {
    config: KafkaModelFeedConfig,
    /// Connected by the first that needs it.
    writer: Mutex<Option<Writer>>,
}

/// What is announced of each model, or why it cannot be read.
type Announced = BTreeMap<String, Result<ModelSet, SetError>>;

impl ModelTopic {
    /// Checks the configuration; connects nothing.
    ///
    /// # Errors
    /// [`ModelTopicError::Config`].
    pub fn new(config: KafkaModelFeedConfig) -> Result<Self, ModelTopicError> {
        config.check()?;
        Ok(Self { config, writer: Mutex::default() })
    }

    /// What is announced of all models, by name; what cannot be read says why.
    ///
    /// # Errors
    /// [`ModelTopicError`] if the topic cannot be read, or the schema registry not be asked.
    pub fn announced(&self) -> Result<Announced, ModelTopicError> {
        let values = Values::new(&self.config)?;
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let model = String::from_utf8_lossy(&key).into_owned();
            match values.read(&key, &value) {
                Err(ModelTopicError::Set(error)) => Ok((model, Err(error))),
                set => Ok((model, Ok(set?))),
            }
        };
        self.standing()?.into_iter().map(read).collect()
    }

    /// Announces a whole set, in the place of what was announced of this model before; durable once this returns. Retired versions
    /// whose files do not fit into the message beside those in force are left out, with a word in the log.
    ///
    /// # Errors
    /// [`ModelTopicError`] if the set contradicts itself, is too large, or cannot be written.
    pub fn announce(&self, set: &ModelSet) -> Result<(), ModelTopicError> {
        let value = Values::new(&self.config)?.write(&mut set.clone())?;
        self.write(&set.model, Some(&value))
    }

    /// Changes what is announced of `model`, and gives the set that is in force then. If somebody else changes it at the same time,
    /// `change` is called again with what they announced, so that neither change is lost. Retired versions whose files do not fit into
    /// the message beside those in force are left out, with a word in the log.
    ///
    /// # Errors
    /// [`ModelTopicError`]; nothing was changed, except that with [`Unknown`](ModelTopicError::Unknown) it may have been.
    pub fn change(
        &self,
        model: &str,
        mut change: impl FnMut(&mut ModelSet) -> Result<(), SetError>,
    ) -> Result<ModelSet, ModelTopicError> {
        // Makes the topic if it is not there.
        drop(Reader::open(&self.config, ONCE)?);
        let values = Values::new(&self.config)?;
        for _ in 0..MAX_TRIES {
            // Whoever begins later fences this one off, so that of two who change at once only one gets through on what it has read.
            let turn = Turn::begin(&self.config, model)?;
            let stands = self.standing()?.remove(model.as_bytes());
            let mut set = match stands.map(|value| values.read(model.as_bytes(), &value)).transpose() {
                Ok(set) => set.unwrap_or_else(|| ModelSet::new(model)),
                Err(ModelTopicError::Set(source)) => {
                    return Err(ModelTopicError::Unreadable { model: model.to_owned(), source });
                }
                Err(error) => return Err(error),
            };
            change(&mut set)?;
            if turn.write(&self.config.topic, model, &values.write(&mut set)?)? {
                return Ok(set);
            }
        }
        Err(ModelTopicError::Contended { model: model.to_owned(), tries: MAX_TRIES })
    }

    /// Takes a model out: workers that run it go on, and those that start find nothing announced.
    ///
    /// # Errors
    /// [`ModelTopicError`] if it cannot be written.
    pub fn remove(&self, model: &str) -> Result<(), ModelTopicError> {
        self.write(model, None)
    }

    /// What workers reported, oldest first; what is no report is passed over.
    ///
    /// # Errors
    /// [`ModelTopicError`] if the topic cannot be read.
    pub fn reports(&self) -> Result<Vec<ModelStatus>, ModelTopicError> {
        self.reported(&self.config.status_topic)
    }

    /// What workers reported of rows that drifted, oldest first; what is no such report is passed over.
    ///
    /// # Errors
    /// [`ModelTopicError`] if the topic cannot be read.
    pub fn drifts(&self) -> Result<Vec<ModelDrift>, ModelTopicError> {
        self.reported(&self.config.drift_topic)
    }

    fn reported<T: DeserializeOwned>(&self, topic: &str) -> Result<Vec<T>, ModelTopicError> {
        let mut reports = Vec::new();
        if topic.is_empty() {
            return Ok(reports);
        }
        if let Some(mut reader) = Reader::of_reports(&self.config, topic)? {
            reader.read_to_end(|record| {
                reports.extend(record.value.and_then(|value| serde_json::from_slice::<T>(value).ok()));
            })?;
        }
        Ok(reports)
    }

    fn write(&self, model: &str, value: Option<&[u8]>) -> Result<(), ModelTopicError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = match &mut *writer {
            Some(writer) => writer,
            none => none.insert(Writer::open(self.config.announces())?),
        };
        Ok(writer.write(&[(model.as_bytes(), value)])?)
    }

    /// What stands under each key.
    fn standing(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ModelTopicError> {
        let mut standing = BTreeMap::new();
        Reader::open(&self.config, ONCE)?.read_to_end(|record| match record.value {
            Some(value) => _ = standing.insert(record.key.to_vec(), value.to_vec()),
            None => _ = standing.remove(record.key),
        })?;
        Ok(standing)
    }
}

impl Announcer for ModelTopic {
    fn announced(&self) -> Result<Announced, BoxError> {
        Ok(ModelTopic::announced(self)?)
    }

    fn change(
        &self,
        model: &str,
        change: &mut dyn FnMut(&mut ModelSet) -> Result<(), SetError>,
    ) -> Result<ModelSet, BoxError> {
        Ok(ModelTopic::change(self, model, change)?)
    }

    fn reports(&self) -> Result<Vec<ModelStatus>, BoxError> {
        Ok(ModelTopic::reports(self)?)
    }

    fn drifts(&self) -> Result<Vec<ModelDrift>, BoxError> {
        Ok(ModelTopic::drifts(self)?)
    }
}
