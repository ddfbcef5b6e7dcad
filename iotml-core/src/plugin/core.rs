//! The plug-ins that need no server.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Registry;
use crate::decode::{AvroDecoder, CsvDecoder, JsonDecoder, PassThrough};
use crate::encode::{AvroEncoder, JsonEncoder, RawEncoder};
use crate::preprocess::{Clamp, Filter, Impute, Rekey, Rename, Scale, Select, Standardise};
use crate::score::ThresholdScorer;
use crate::sink::StdoutSink;

/// No options.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoOptions {}

/// Adds core's own plug-ins.
pub(super) fn register(registry: &mut Registry) {
    decoders(registry);
    preprocessors(registry);
    scorers(registry);
    encoders(registry);
    sinks(registry);
}

fn decoders(registry: &mut Registry) {
    registry
        .decoder("raw", "Passes messages through undecoded.", |_: NoOptions, _| Ok(Box::new(PassThrough)))
        .decoder("json", "One JSON object per message.", |config, _| Ok(Box::new(JsonDecoder::new(config)?)))
        .decoder("csv", "One CSV row per message.", |config, _| Ok(Box::new(CsvDecoder::new(config)?)))
        .decoder("avro", "One bare Avro datum per message, of a configured schema.", |config, _| {
            Ok(Box::new(AvroDecoder::new(config)?))
        });
}

fn preprocessors(registry: &mut Registry) {
    registry
        .preprocessor("select", "Keeps some columns, or all but some.", |config, _| Ok(Box::new(Select::new(config)?)))
        .preprocessor("rename", "Gives columns other names.", |config, _| Ok(Box::new(Rename::new(config)?)))
        .preprocessor("impute", "Fills in missing values.", |config, _| Ok(Box::new(Impute::new(config)?)))
        .preprocessor("clamp", "Limits the values of columns.", |config, _| Ok(Box::new(Clamp::new(config)?)))
        .preprocessor("scale", "Maps columns from one range onto another.", |config, _| {
            Ok(Box::new(Scale::new(config)?))
        })
        .preprocessor("standardise", "Brings columns to mean 0 and deviation 1.", |config, _| {
            Ok(Box::new(Standardise::new(config)?))
        })
        .preprocessor("filter", "Keeps the rows whose value lies within a range.", |config, _| {
            Ok(Box::new(Filter::new(config)?))
        })
        .preprocessor("rekey", "Builds the key of each row from its columns.", |config, _| {
            Ok(Box::new(Rekey::new(config)?))
        });
}

fn scorers(registry: &mut Registry) {
    registry.scorer("threshold", "Judges rows by a column that is already there.", |config, _| {
        Ok(Box::new(ThresholdScorer::new(config)?))
    });
}

fn encoders(registry: &mut Registry) {
    registry
        .encoder("raw", "The bytes as they came.", |_: NoOptions, _| Ok(Box::new(RawEncoder)))
        .encoder("json", "One JSON object per row.", |config, _| Ok(Box::new(JsonEncoder::new(config))))
        .encoder("avro", "One bare Avro datum per row.", |config, _| Ok(Box::new(AvroEncoder::new(config)?)));
}

fn sinks(registry: &mut Registry) {
    registry.sink("stdout", "One line of JSON per row on standard output.", |config, _| {
        Ok(Arc::new(StdoutSink::new(config)))
    });
}
