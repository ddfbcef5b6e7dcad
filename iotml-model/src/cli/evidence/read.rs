//! Predictions, as a route encodes them.

use std::sync::Arc;

use iotml_core::arrow::array::{Array, AsArray, BooleanArray, Float32Array, Int64Array, StringArray};
use iotml_core::arrow::compute::cast;
use iotml_core::arrow::datatypes::{DataType, Float32Type, Int64Type};
use iotml_core::batch::{Batch, RawBatch};
use iotml_core::decode::Decoder;
use iotml_core::error::BoxError;
use iotml_core::pipeline::TaskContext;
use iotml_core::plugin::config::{PluginTable, RouteTable};
use iotml_core::score::column;
use iotml_core::sink::Stretch;
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use super::super::Failure;
use super::{Evidence, is_within};
use crate::comparison::{Row, row_id};

/// What one message says; its row has no version yet.
pub(super) struct Entry<'a> {
    pub row: Row<'static>,
    pub model: Option<&'a str>,
    pub version: Option<&'a str>,
}

/// The predictions of one route, batch by batch.
pub(super) struct Predictions<'a> {
    stretch: Stretch,
    next: Option<Arc<RawBatch>>,
    is_done: bool,
    place: (i32, Option<i64>),
    decoder: Box<dyn Decoder>,
    runtime: &'a Runtime,
    names: Names,
    times: (Option<i64>, Option<i64>),
}

/// The columns of a prediction.
struct Names {
    score: String,
    anomaly: String,
    model: String,
    version: String,
    /// When it was encoded, if that is written.
    encoded: Option<String>,
}

impl<'a> Predictions<'a> {
    pub fn open(
        evidence: &Evidence<'a>,
        route: &RouteTable,
        prefix: &str,
        times: (Option<i64>, Option<i64>),
    ) -> Result<Self, Failure> {
        let of = |name: &str| format!("{prefix}{name}");
        let encode = route.encode.as_ref();
        let encoded = encode.and_then(|table| table.0.get("encoded_field")).and_then(Value::as_str).map(str::to_owned);
        let names = Names {
            score: of(column::SCORE),
            anomaly: of(column::ANOMALY),
            model: of(column::MODEL),
            version: of(column::MODEL_VERSION),
            encoded,
        };
        let table = names.decoder_for(route)?;
        let decoder = evidence.registry.decoders.get(table.kind());
        let decoder = decoder.ok_or_else(|| format!("there is no decoder of type {:?}", table.kind()))?;
        let decoder = decoder.build(table.settings(), &evidence.context());
        let scrub = |text: String| evidence.config.secrets().scrub(&text).into_owned();
        let mut decoder = decoder.map_err(|error| scrub(error.to_string()))?;
        let opened = evidence.runtime.block_on(decoder.open(&TaskContext::single("compare")));
        opened.map_err(|error| scrub(error.to_string()))?;
        let stretch = evidence.stretch(&route.sink, times)?;
        let place = (i32::MIN, None);
        Ok(Self { stretch, next: None, is_done: false, place, decoder, runtime: evidence.runtime, names, times })
    }

    /// Whether everything was read.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// How far it is read: the partition, and the time in it.
    pub fn place(&self) -> (i32, Option<i64>) {
        self.place
    }

    /// Whether there is anything at all.
    pub fn has_any(&mut self) -> Result<bool, BoxError> {
        self.fill()?;
        Ok(self.next.is_some())
    }

    fn fill(&mut self) -> Result<(), BoxError> {
        if self.next.is_none() && !self.is_done {
            self.next = self.stretch.next().transpose()?;
            self.is_done = self.next.is_none();
        }
        Ok(())
    }

    /// Gives what the next messages say to `see`, `None` for one that cannot be read.
    pub fn next(&mut self, mut see: impl FnMut(Option<Entry<'_>>)) -> Result<(), BoxError> {
        self.fill()?;
        let Some(raw) = self.next.take() else { return Ok(()) };
        if let Some(last) = raw.len().checked_sub(1) {
            self.place = (raw.coordinate(last).partition, raw.messages().time(last));
        }
        self.runtime.block_on(self.decoder.prepare(&raw))?;
        let decoded = self.decoder.decode(&raw)?;
        decoded.rejected.iter().for_each(|_| see(None));
        let batch = &decoded.batch;
        let columns = Columns::of(batch, &self.names)?;
        for at in 0..batch.len() {
            let time = batch.time(at);
            if is_within(time, self.times) {
                see(Some(columns.entry(at, batch.key(at), time)));
            }
        }
        Ok(())
    }
}

impl Names {
    /// The table of a decoder that reads what the encoder of `route` writes.
    fn decoder_for(&self, route: &RouteTable) -> Result<PluginTable, Failure> {
        let name = &route.name;
        let Some(encode) = &route.encode else {
            return Err(format!("route {name:?} has no encoder, so it writes what came and no predictions"));
        };
        let written = encode.0.get("columns").and_then(Value::as_array);
        let needed = [&self.score, &self.version];
        if let Some(written) = written
            && let Some(missing) = needed.iter().find(|needed| !written.iter().any(|it| it == needed.as_str()))
        {
            return Err(format!("route {name:?} does not write {missing:?}; add it to its `columns`"));
        }
        let keep = |keys: &[&str]| {
            let kept = encode.0.iter().filter(|(key, _)| keys.contains(&key.as_str()));
            PluginTable(kept.map(|(key, value)| (key.clone(), value.clone())).collect::<Map<_, _>>())
        };
        match encode.kind() {
            "json" => {
                let column = |name: &str, kind: &str| json!({ "name": name, "type": kind });
                let mut columns = vec![
                    column(&self.score, "float32"),
                    column(&self.anomaly, "boolean"),
                    column(&self.model, "utf8"),
                    column(&self.version, "utf8"),
                ];
                columns.extend(self.encoded.as_ref().map(|name| column(name, "int64")));
                let table = json!({ "type": "json", "columns": columns });
                Ok(PluginTable(table.as_object().cloned().unwrap_or_default()))
            }
            "avro" if encode.0.contains_key("schema") || encode.0.contains_key("schema_file") => {
                Ok(keep(&["type", "schema", "schema_file"]))
            }
            "confluent_avro" => Ok(keep(&["type", "registry"])),
            "avro" => Err(format!("the schema of route {name:?} is made from its columns; give it a `schema`")),
            other => Err(format!(
                "what route {name:?} encodes as {other:?} cannot be read again; json, avro and confluent_avro can"
            )),
        }
    }
}

/// The columns of a batch of predictions; those that are not there are `None`.
struct Columns {
    score: Option<Float32Array>,
    anomaly: Option<BooleanArray>,
    model: Option<StringArray>,
    version: Option<StringArray>,
    encoded: Option<Int64Array>,
}

impl Columns {
    fn of(batch: &Batch, names: &Names) -> Result<Self, BoxError> {
        let column = |name: &str, as_type: DataType| batch.column(name).map(|array| cast(array, &as_type)).transpose();
        let text =
            |name: &str| column(name, DataType::Utf8).map(|array| array.map(|array| array.as_string::<i32>().clone()));
        let number = |name: &str| column(name, DataType::Int64);
        let encoded = names.encoded.as_deref().map(number).transpose()?.flatten();
        Ok(Columns {
            score: column(&names.score, DataType::Float32)?.map(|array| array.as_primitive::<Float32Type>().clone()),
            anomaly: column(&names.anomaly, DataType::Boolean)?.map(|array| array.as_boolean().clone()),
            model: text(&names.model)?,
            version: text(&names.version)?,
            encoded: encoded.map(|array| array.as_primitive::<Int64Type>().clone()),
        })
    }

    fn entry(&self, at: usize, key: Option<&[u8]>, time: Option<i64>) -> Entry<'_> {
        let encoded = self.encoded.as_ref().filter(|it| it.is_valid(at)).map(|it| it.value(at));
        let row = Row {
            version: "",
            id: row_id(key, time),
            time,
            score: self.score.as_ref().filter(|it| it.is_valid(at)).map(|it| it.value(at)),
            anomaly: self.anomaly.as_ref().filter(|it| it.is_valid(at)).map(|it| it.value(at)),
            latency: encoded.zip(time).map(|(encoded, time)| encoded - time),
        };
        Entry { row, model: value(&self.model, at), version: value(&self.version, at) }
    }
}

fn value(array: &Option<StringArray>, at: usize) -> Option<&str> {
    array.as_ref().filter(|array| array.is_valid(at)).map(|array| array.value(at))
}
