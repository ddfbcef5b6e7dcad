//! Configuration files: every mistake at once, substitution, secrets, and the pipeline that comes out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use iotml_core::decode::{Decoder, PassThrough};
use iotml_core::encode::{EncodeError, Encoded, Encoder};
use iotml_core::error::ConfigError;
use iotml_core::pipeline::{OnFailure, Pipeline, Tolerance};
use iotml_core::plugin::config::{Config, Mistakes};
use iotml_core::plugin::{HumanDuration, Plugin, Registry, Remark};
use iotml_core::preprocess::{PreprocessError, Preprocessor};
use iotml_core::score::{ScoreError, Scorer};
use iotml_core::secret::Secret;
use iotml_core::sink::SinkError;
use iotml_core::testing::{MemoryLog, MemorySink};
use schemars::JsonSchema;
use serde::Deserialize;

/// Receives from somewhere.
#[derive(Deserialize, JsonSchema)]
struct SourceConfig {
    /// Topics to receive from.
    topics: Vec<String>,
    /// Properties that are passed through.
    #[serde(default)]
    #[allow(dead_code)]
    kafka: BTreeMap<String, String>,
    /// How to log in.
    login: Option<Login>,
    /// Messages to yield; then it ends.
    #[serde(default)]
    count: u32,
    /// Whether it goes on after that.
    #[serde(default)]
    endless: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(tag = "method", rename_all = "lowercase")]
enum Login {
    /// With a password.
    Plain {
        #[allow(dead_code)]
        user: String,
        password: Secret,
    },
    /// With a ticket.
    Ticket {
        #[allow(dead_code)]
        path: String,
    },
}

#[derive(Deserialize, JsonSchema)]
struct ClampConfig {
    /// Columns by name; the limits of each.
    #[allow(dead_code)]
    columns: BTreeMap<String, (f64, f64)>,
    /// What to do outside.
    #[serde(default)]
    #[allow(dead_code)]
    outside: Outside,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Outside {
    /// Move to the limit.
    #[default]
    Clamp,
    /// Reject the row.
    Reject,
}

#[derive(Deserialize, JsonSchema)]
struct ModelConfig {
    /// An ONNX file.
    model: String,
    /// How often it is looked at.
    #[serde(default = "ten_seconds")]
    #[allow(dead_code)]
    poll: HumanDuration,
}

fn ten_seconds() -> HumanDuration {
    HumanDuration::from_secs(10)
}

#[derive(Deserialize, JsonSchema)]
struct SinkConfig {
    /// Topic to write to; `{key}` is the row's key.
    #[allow(dead_code)]
    topic: String,
    /// Between 0 and 9.
    #[schemars(range(min = 0, max = 9))]
    #[serde(default)]
    #[allow(dead_code)]
    compression: u8,
}

#[derive(Deserialize, JsonSchema)]
struct Nothing {}

#[derive(Deserialize, JsonSchema)]
struct Flaky {
    n_failures: u32,
}

#[derive(Deserialize, JsonSchema)]
struct Refusing {
    password: Secret,
}

#[iotml_core::async_trait]
impl iotml_core::sink::Sink for Refusing {
    async fn open(&self, _: &iotml_core::pipeline::TaskContext) -> Result<(), SinkError> {
        Err(SinkError::fatal(format!("the server refused the password {:?}; check it", self.password.expose())))
    }

    async fn write(&self, _: iotml_core::sink::Outgoing) -> Result<iotml_core::sink::Written, SinkError> {
        Err(SinkError::fatal("not open"))
    }
}

struct Same;

impl Preprocessor for Same {
    fn apply(&mut self, batch: iotml_core::batch::Batch) -> Result<iotml_core::batch::StageOutput, PreprocessError> {
        Ok(iotml_core::batch::StageOutput::all(batch))
    }
}

impl Scorer for Same {
    fn score(&mut self, batch: iotml_core::batch::Batch) -> Result<iotml_core::batch::StageOutput, ScoreError> {
        Ok(iotml_core::batch::StageOutput::all(batch))
    }
}

impl Encoder for Same {
    fn encode(&mut self, batch: &iotml_core::batch::Batch) -> Result<Encoded, EncodeError> {
        Ok(Encoded { messages: batch.raw().messages().clone(), rejected: Vec::new() })
    }
}

/// A registry whose plug-ins have the names of the real ones, and need no server.
pub(crate) fn registry() -> Registry {
    registry_into(MemorySink::new())
}

pub(crate) fn registry_into(stored: Arc<MemorySink>) -> Registry {
    let mut registry = Registry::default();
    registry.source("kafka", "Receives from topics", |config: SourceConfig, _| {
        if config.topics.iter().any(|topic| topic.contains(' ')) {
            let password = match &config.login {
                Some(Login::Plain { password, .. }) => password.expose(),
                _ => "none",
            };
            return Err(ConfigError::new(format!("topic {:?} is no name (login {password})", config.topics[0])));
        }
        let log = MemoryLog::default();
        log.publish((0..config.count).map(|n| n.to_string()));
        if !config.endless {
            log.end();
        }
        Ok(Box::new(log.source(10)))
    });
    registry.decoder("confluent_avro", "Avro behind a schema id", |_: Nothing, _| {
        Ok(Box::new(PassThrough) as Box<dyn Decoder>)
    });
    registry.preprocessor("clamp", "Moves values to limits", |_: ClampConfig, _| Ok(Box::new(Same)));
    registry.scorer("onnx", "Scores with an ONNX model", |config: ModelConfig, _| {
        let is_onnx = config.model.ends_with(".onnx");
        if is_onnx { Ok(Box::new(Same)) } else { Err(ConfigError::new(format!("{:?} is no ONNX file", config.model))) }
    });
    registry.encoder("json", "One object a row", |_: Nothing, _| Ok(Box::new(Same)));
    registry.sink("kafka", "Writes to a topic", move |_: SinkConfig, _| Ok(stored.clone()));
    registry.sink("hanging", "Never finishes a write", |_: Nothing, _| {
        let sink = MemorySink::new();
        sink.delay(Some(std::time::Duration::from_secs(3600)));
        Ok(sink)
    });
    registry.sink("flaky", "Fails its first writes for good", |config: Flaky, _| {
        let sink = MemorySink::new();
        (0..config.n_failures).for_each(|_| sink.script(Err(SinkError::fatal("the disk is full"))));
        Ok(sink)
    });
    registry.sink("refusing", "Is careless with its secret", |config: Refusing, _| Ok(Arc::new(config)));
    registry.sink("mqtt", "Publishes to devices", |_: SinkConfig, _| Ok(MemorySink::new()));
    registry
}

pub(crate) const GOOD: &str = r#"
[pipeline]
name = "score-cars"
instance = "worker-1"
"tasks.max" = 2
"errors.tolerance" = "all"
"errors.retry.timeout" = "forever"
"errors.retry.delay.max" = "1s"
drain_timeout = "3s"
max_in_flight_bytes = "4MiB"

[source]
type = "kafka"
topics = ["sensor-data"]
login = { method = "plain", user = "alice", password = "hunter2" }

[source.kafka]
"bootstrap.servers" = "127.0.0.1:9092"
"sasl.password" = "hunter3"

[decode]
type = "confluent_avro"

[[preprocess]]
type = "clamp"
columns = { speed = [0, 80] }

[score]
type = "onnx"
model = "cars.onnx"

[[route]]
name = "predictions"
encode = { type = "json" }
sink = { type = "kafka", topic = "model-predictions" }

[[route]]
name = "alerts"
when = "anomaly"
required = false
encode = { type = "json" }
sink = { type = "mqtt", topic = "vehicles/{key}/alerts" }

[dead_letter]
type = "kafka"
topic = "sensor-data-dlq"
"#;

fn parse(text: &str) -> Result<Config, Mistakes> {
    Config::parse(text, Path::new("cars.toml"), &Arc::new(registry()))
}

fn mistakes(text: &str) -> Vec<String> {
    parse(text).unwrap_err().mistakes.iter().map(ToString::to_string).collect()
}

/// `GOOD` with lines replaced.
fn with(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(GOOD.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    })
}

#[test]
fn a_good_configuration_becomes_a_pipeline() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.warnings, []);
    let spec = config.pipeline();
    assert_eq!((&*spec.name, &*spec.instance, spec.n_tasks), ("score-cars", "worker-1", 2));
    assert_eq!(spec.options.tolerance, Tolerance::All);
    assert_eq!(spec.options.retry_timeout, None);
    assert_eq!(spec.options.drain_timeout.as_secs(), 3);
    assert_eq!(spec.options.max_in_flight_bytes, 4 << 20);
    let context = iotml_core::plugin::BuildContext { pipeline: "p".into(), task: 0, n_tasks: 1 };
    let stages = (spec.build)(&context).unwrap();
    assert_eq!(stages.preprocessors[0].0, "clamp");
    assert!(stages.scorer.is_some() && stages.dead_letter.is_some());
    let routes: Vec<_> =
        stages.routes.iter().map(|route| (&*route.name, route.required, route.when.is_some())).collect();
    assert_eq!(routes, [("predictions", true, false), ("alerts", false, true)]);
}

#[test]
fn what_is_left_out_has_defaults() {
    let text = "[pipeline]\nname = \"p\"\n[source]\ntype = \"kafka\"\ntopics = []\n\
                [[route]]\nname = \"all\"\nsink = { type = \"kafka\", topic = \"t\" }\n[http]\n";
    let config = parse(text).unwrap();
    let spec = config.pipeline();
    assert!(!spec.instance.is_empty(), "the host's name");
    assert_eq!(format!("{:?}", spec.options), format!("{:?}", iotml_core::pipeline::PipelineOptions::default()));
    assert_eq!(config.frame.http.unwrap().listen.0.to_string(), "127.0.0.1:9464");
}

#[test]
fn a_configured_pipeline_runs() {
    let stored = MemorySink::new();
    let text = "[pipeline]\nname = \"p\"\n[source]\ntype = \"kafka\"\ntopics = []\ncount = 25\n\
                [[route]]\nname = \"all\"\nsink = { type = \"kafka\", topic = \"t\" }\n";
    let config = Config::parse(text, Path::new("p.toml"), &Arc::new(registry_into(stored.clone()))).unwrap();
    let summary = Pipeline::start(config.pipeline(), Default::default()).unwrap().wait().unwrap();
    assert_eq!((summary.audit.received, summary.audit.delivered), (25, 25));
    assert_eq!(stored.texts(), (0..25).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_plugin_may_bring_a_json_schema_of_its_own() {
    let schema = serde_json::json!({
        "type": "object",
        "properties": { "factor": { "$ref": "#/$defs/Factor" } },
        "required": ["factor"],
        "$defs": { "Factor": { "type": "number", "minimum": 0 } },
    });
    let mut registry = registry();
    let build = |config: serde_json::Value, _: &_| match config["factor"].as_f64() {
        Some(13.0) => Err(ConfigError::new("13 is no lucky number")),
        _ => Ok(Box::new(Same) as Box<dyn Preprocessor>),
    };
    let plugin = Plugin::with_schema("Multiplies", schema.try_into().unwrap(), build);
    registry.preprocessors.insert("multiply", plugin);
    let registry = Arc::new(registry);
    let parse = |factor: &str| {
        let table = format!("type = \"multiply\"\n{factor}\n");
        let text = with(&[("type = \"clamp\"\ncolumns = { speed = [0, 80] }\n", &table)]);
        let parsed = Config::parse(&text, Path::new("cars.toml"), &registry);
        parsed.map(|_| ()).map_err(|mistakes| mistakes.mistakes.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(parse("factor = 2"), Ok(()));
    for (wrong, want) in [
        ("factr = 2", "line 26: preprocess[0].factr: unknown key; did you mean `factor`?"),
        ("factor = -1", "line 26: preprocess[0].factor: must be at least 0"),
        ("factor = 13", "line 24: preprocess[0]: 13 is no lucky number"),
    ] {
        let found = parse(wrong).unwrap_err();
        assert!(found.len() == 1 && found[0].contains(want.split_once(": ").unwrap().1), "{found:?}");
    }
    let whole = iotml_core::plugin::config::schema(&registry);
    assert!(whole.pointer("/$defs/Factor").is_some() && whole.pointer("/$defs/preprocess.multiply").is_some());
}

#[test]
fn five_mistakes_are_reported_at_once() {
    let text = with(&[
        ("\"tasks.max\"", "\"tasks.maxx\""),
        ("\"all\"", "\"al\""),
        ("\"bootstrap.servers\"", "bootstrap.servers"),
        ("\"confluent_avro\"", "\"confluent_avor\""),
        ("topic = \"vehicles", "topicc = \"vehicles"),
    ]);
    let expect = "cars.toml has 5 mistakes:
  line 5: pipeline.\"tasks.maxx\": unknown key; did you mean `tasks.max`?
  line 6: pipeline.\"errors.tolerance\": \"al\" is none of \"none\", \"all\"; did you mean `all`?
  line 18: source.kafka.bootstrap: must be a string, not a table; a key with dots in it must be written in quotes; did you mean `\"bootstrap.servers\"`?
  line 22: decode.type: unknown decode plug-in \"confluent_avor\"; did you mean `confluent_avro`?
  line 42: route[1].sink.topicc: unknown key; did you mean `topic`?";
    assert_eq!(parse(&text).unwrap_err().to_string(), expect);
}

#[test]
fn every_kind_of_mistake_has_its_words() {
    let cases = [
        (("name = \"score-cars\"\n", ""), "line 2: pipeline.name: is missing"),
        (("\"tasks.max\" = 2", "\"tasks.max\" = 0"), "line 5: pipeline.\"tasks.max\": must be at least 1"),
        (
            ("\"tasks.max\" = 2", "\"tasks.max\" = \"2\""),
            "line 5: pipeline.\"tasks.max\": must be a whole number, not a string",
        ),
        (
            ("\"tasks.max\" = 2", "tasks.max = 2"),
            "line 5: pipeline.tasks: a key with dots in it must be written in quotes; did you mean `\"tasks.max\"`?",
        ),
        (
            ("drain_timeout = \"3s\"", "drain_timeout = \"3 seconds\""),
            "line 9: pipeline.drain_timeout: is not valid; write it like 500ms or 10s or 5m",
        ),
        (("topics = [", "topics = [1, "), "line 14: source.topics[0]: must be a string, not a whole number"),
        (("topics = [\"sensor-data\"]\n", ""), "line 12: source.topics: is missing"),
        (("type = \"confluent_avro\"\n", ""), "line 21: decode.type: is missing; known here: confluent_avro"),
        (("\"onnx\"", "\"torch\""), "line 29: score.type: unknown score plug-in \"torch\"; known here: onnx"),
        (
            ("method = \"plain\"", "method = \"plan\""),
            "line 15: source.login.method: \"plan\" is none of \"plain\", \"ticket\"; did you mean `plain`?",
        ),
        (("method = \"plain\", ", ""), "line 15: source.login.method: is missing"),
        (("user = \"alice\"", "usr = \"alice\""), "line 15: source.login.usr: unknown key; did you mean `user`?"),
        (("[decode]\n", "[decode]\nstrict = true\n"), "line 22: decode.strict: unknown key; none is known here"),
        (
            ("columns = {", "outside = \"rejct\"\ncolumns = {"),
            "line 26: preprocess[0].outside: \"rejct\" is none of \"clamp\", \"reject\"; did you mean `reject`?",
        ),
        (("= [0, 80]", "= [0]"), "line 26: preprocess[0].columns.speed: must have at least 2 entries"),
        (
            ("topic = \"model-predictions\"", "topic = \"t\", compression = 12"),
            "line 35: route[0].sink.compression: must be at most 9",
        ),
        (("\"cars.onnx\"", "\"cars.h5\""), "line 28: score: \"cars.h5\" is no ONNX file"),
        (
            ("\"alerts\"", "\"predictions\""),
            "line 38: route[1].name: route[0] is already named \"predictions\"; give each route a name of its own",
        ),
        (("[dead_letter]", "[dead_leter]"), "line 44: dead_leter: unknown key; did you mean `dead_letter`?"),
        (
            ("[[preprocess]]", "[preprocess]"),
            "line 24: preprocess: must be an array, not a table; a table that may stand more than once is written [[preprocess]]",
        ),
    ];
    for ((from, to), expect) in cases {
        assert_eq!(mistakes(&with(&[(from, to)])), [expect], "{from} -> {to}");
    }
}

#[test]
fn a_document_without_tables_names_what_is_missing() {
    assert_eq!(mistakes(""), ["pipeline: is missing", "source: is missing", "route: is missing"]);
    assert_eq!(mistakes("[pipeline\n").len(), 1);
    let missing = Config::load(Path::new("absent.toml"), &Arc::new(registry())).unwrap_err().to_string();
    assert_eq!(missing, "absent.toml: cannot be read: No such file or directory (os error 2)");
}

#[test]
fn values_come_from_files_and_become_numbers_where_numbers_are_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("worker.properties");
    std::fs::write(&file, "tasks=3\npassword=hunter4\n").unwrap();
    let tasks = format!("\"tasks.max\" = \"${{file:{}:tasks}}\"", file.display());
    let password = format!("password = \"${{file:{}:password}}\"", file.display());
    let config = parse(&with(&[("\"tasks.max\" = 2", &tasks), ("password = \"hunter2\"", &password)])).unwrap();
    assert_eq!(config.pipeline().n_tasks, 3);
    let shown = config.redacted().to_string();
    assert!(!shown.contains("hunter"), "{shown}");
    assert_eq!(config.redacted()["pipeline"]["tasks.max"], "***");
    assert_eq!(config.secrets().scrub("refused: hunter4"), "refused: ***");
}

#[test]
fn a_value_that_cannot_be_put_in_is_one_mistake_at_its_place() {
    let text = with(&[
        ("\"3s\"", "\"${env:IOTML_ABSENT}\""),
        ("\"tasks.max\" = 2", "\"tasks.max\" = \"${file:/absent:n}\""),
        ("\"hunter2\"", "\"${env:IOTML_ABSENT}\""),
    ]);
    let absent = "environment variable IOTML_ABSENT is not set, but `${env:IOTML_ABSENT}` wants it";
    let expect = [
        "line 5: pipeline.\"tasks.max\": file /absent cannot be read: No such file or directory (os error 2)"
            .to_owned(),
        format!("line 9: pipeline.drain_timeout: {absent}"),
        format!("line 15: source.login.password: {absent}"),
    ];
    assert_eq!(mistakes(&text), expect);
}

#[test]
fn inv_10_no_secret_is_in_a_dump_or_an_error() {
    let config = parse(GOOD).unwrap();
    let shown = format!("{} {config:?} {:?}", config.redacted(), config.frame);
    assert!(!shown.contains("hunter"), "{shown}");
    assert_eq!(config.redacted()["source"]["login"]["password"], "***");
    assert_eq!(config.redacted()["source"]["kafka"]["sasl.password"], "***");
    assert_eq!(config.redacted()["source"]["kafka"]["bootstrap.servers"], "127.0.0.1:9092");

    // A factory that is careless with its secret does not get it past the report.
    let careless = mistakes(&with(&[("\"sensor-data\"", "\"sensor data\"")]));
    assert_eq!(careless, ["line 12: source: topic \"sensor data\" is no name (login ***)"]);
    // Neither does a value of the wrong type or at the wrong place.
    for wrong in ["password = 4711", "pasword = \"hunter2\"", "password = \"hunter2\", token = \"hunter2\""] {
        let found = mistakes(&with(&[("password = \"hunter2\"", wrong)])).join("\n");
        assert!(!found.contains("hunter") && !found.contains("4711"), "{found}");
    }
}

#[test]
fn who_listens_for_other_machines_needs_a_token_for_control() {
    let end = GOOD.lines().count();
    let http = |table: &str| mistakes(&format!("{GOOD}[http]\n{table}"));
    for ok in [
        "listen = \"[::1]:9464\"",
        "listen = \"0.0.0.0:9464\"\ncontrol = false",
        "listen = \"0.0.0.0:9464\"\ntoken = \"0123456789abcdef\"\nmetrics_need_token = true",
    ] {
        assert!(
            Config::parse(&format!("{GOOD}[http]\n{ok}"), Path::new("cars.toml"), &Arc::new(registry())).is_ok(),
            "{ok}"
        );
    }
    let open = http("listen = \"0.0.0.0:9464\"");
    assert_eq!(open.len(), 1);
    assert!(open[0].starts_with(&format!("line {}: http.listen: other machines can reach", end + 2)), "{open:?}");
    assert!(http("token = \"hunter2\"")[0].contains("at least 16 characters"));
    assert!(!http("token = \"hunter2\"")[0].contains("hunter2"));
    assert!(http("metrics_need_token = true")[0].ends_with("there is no token: set it"));
}

#[test]
fn a_pipeline_says_what_becomes_of_its_failures() {
    let config = parse(&with(&[(
        "drain_timeout",
        "restart_max = 7\nrestart_backoff_max = \"2s\"\nrestart_window = \"1m\"\non_failure = \"stay\"\ndrain_timeout",
    )]));
    let options = config.unwrap().pipeline().options;
    assert_eq!((options.restart_max, options.on_failure), (7, OnFailure::Stay));
    assert_eq!((options.restart_backoff_max.as_secs(), options.restart_window.as_secs()), (2, 60));
    let wrong = mistakes(&with(&[("drain_timeout", "on_failure = \"leave\"\ndrain_timeout")]));
    assert!(wrong[0].contains("on_failure"), "{wrong:?}");
}

#[test]
fn checks_of_plugins_see_the_whole_pipeline() {
    let mut registry = registry();
    registry.check(|inspection| {
        let topic = inspection.config.pointer("/source/topics/0").and_then(|topic| topic.as_str());
        match topic {
            Some("sensor-data") => vec![Remark::warning("/source/topics/0", "is shared")],
            _ => vec![Remark::mistake("/source/topics/0", "cannot be used here")],
        }
    });
    let registry = Arc::new(registry);
    let config = Config::parse(GOOD, Path::new("cars.toml"), &registry).unwrap();
    assert_eq!(config.warnings[0].to_string(), "line 14: source.topics[0]: is shared");
    let other = GOOD.replace("sensor-data\"]", "other\"]");
    let refused = Config::parse(&other, Path::new("cars.toml"), &registry).unwrap_err();
    assert_eq!(refused.to_string(), "cars.toml: line 14: source.topics[0]: cannot be used here");
}

#[test]
#[should_panic(expected = "a plug-in of type \"kafka\" is registered twice")]
fn a_type_is_registered_once_per_stage() {
    registry().sink("kafka", "Again", |_: Nothing, _| Ok(MemorySink::new()));
}

#[test]
fn the_schema_accepts_what_the_worker_accepts_and_nothing_else() {
    let schema = iotml_core::plugin::config::schema(&registry());
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let value: serde_json::Value = toml::from_str(GOOD).unwrap();
    let wrong: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (from, to) in [
        ("topicc = \"vehicles", "topic = \"vehicles"),
        ("\"tasks.maxx\"", "\"tasks.max\""),
        ("\"confluent_avor\"", "\"confluent_avro\""),
        ("model = 5", "model = \"cars.onnx\""),
    ] {
        let value: serde_json::Value = toml::from_str(&with(&[(to, from)])).unwrap();
        assert!(!validator.is_valid(&value), "{from}");
    }
    assert_eq!(schema.pointer("/properties/source/$ref").unwrap(), "#/$defs/source");
    assert_eq!(schema.pointer("/$defs/sink/oneOf/3/$ref").unwrap(), "#/$defs/sink.mqtt");
    assert_eq!(schema.pointer("/$defs/source.kafka/properties/type/const").unwrap(), "kafka");
}
