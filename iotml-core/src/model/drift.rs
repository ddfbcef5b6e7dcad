//! What a worker says when rows are no longer like those that a version was trained on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One report of a worker: the rows that a version scores have been unlike its training rows for some windows in a row.
///
/// It says what a retraining needs: of which version, which features, and from which place of the log on. As JSON:
///
/// ```json
/// {"model": "cars", "version": "3", "pipeline": "cars", "instance": "w1", "time": 1790000600000,
///  "windows": 3, "rows": 30000, "from": 1790000000000, "until": 1790000599000,
///  "log": [{"topic": "sensor-data", "partitions": {"0": [1200, 16200], "1": [900, 15900]}}],
///  "features": [{"name": "coolant_temp", "psi": 1.31, "ks": 0.52, "missing": 0.0}],
///  "anomaly_rate": {"found": 0.031, "expected": 0.001}}
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelDrift {
    /// The model's name.
    pub model: String,
    /// The version.
    pub version: String,
    /// The pipeline.
    pub pipeline: String,
    /// The instance of the worker; others of a group make reports of their own.
    pub instance: String,
    /// When, in milliseconds since the Unix epoch.
    pub time: i64,
    /// How many windows in a row were above a limit, up to this report.
    pub windows: u64,
    /// How many rows were looked at in them.
    pub rows: u64,
    /// The earliest event time of these rows, in milliseconds since the Unix epoch, if they have times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    /// The latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// Where in the log these rows are; empty where the source is no log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<LogStretch>,
    /// The features above a limit in the last window, those with the highest PSI first.
    pub features: Vec<FeatureDrift>,
    /// The share of anomalies in the last window, if it is beyond its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anomaly_rate: Option<AnomalyRate>,
}

/// How far a feature is from its training rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureDrift {
    /// Its name.
    pub name: String,
    /// Population stability index: 0 for equal shares of all bins, without an upper bound.
    pub psi: f64,
    /// Kolmogorov-Smirnov distance at the edges of the bins, 0 to 1.
    pub ks: f64,
    /// The share of rows without a value.
    pub missing: f64,
}

/// Anomalies per row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnomalyRate {
    /// In the window.
    pub found: f64,
    /// According to the manifest.
    pub expected: f64,
}

/// A stretch of a topic, in the form of a `LogRange` of `iotml-kafka`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStretch {
    /// The topic.
    pub topic: String,
    /// By partition: the first offset, and the one behind the last.
    pub partitions: BTreeMap<i32, (i64, i64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_form_is_read_and_written() {
        let text = r#"{"model":"cars","version":"3","pipeline":"cars","instance":"w1","time":1790000600000,"windows":3,"rows":30000,"from":1790000000000,"until":1790000599000,"log":[{"topic":"sensor-data","partitions":{"0":[1200,16200],"1":[900,15900]}}],"features":[{"name":"coolant_temp","psi":1.31,"ks":0.52,"missing":0.0}],"anomaly_rate":{"found":0.031,"expected":0.001}}"#;
        let drift: ModelDrift = serde_json::from_str(text).unwrap();
        assert_eq!(drift.log[0].partitions[&1], (900, 15_900));
        assert_eq!(serde_json::to_string(&drift).unwrap(), text);
    }
}
