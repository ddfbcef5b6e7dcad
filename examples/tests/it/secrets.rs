//! Invariant 10 on a whole worker: everything that it prints, serves and writes is searched for the secrets of its configuration,
//! while it works, while it is refused, and where its configuration is wrong.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use iotml_core::batch::{Batch, Coordinate, Lane, Message, Messages, Position, RawBatch, RawMessage};
use iotml_core::encode::{Registration, SchemaRegistrar};
use iotml_core::pipeline::TaskContext;
use iotml_core::secret::Secret;
use iotml_core::sink::{Outgoing, Sink};
use iotml_core::testing::servers;
use iotml_kafka::{LogEvent, LogReader, LogReaderConfig, SchemaRegistry, SchemaRegistryConfig, Select, Until};
use iotml_mqtt::{ConnectionConfig, MqttSink, MqttSinkConfig};

use crate::{checkout, fresh};

const WORKER: &str = env!("CARGO_BIN_EXE_worker");
const PATIENCE: Duration = Duration::from_secs(60);

/// A secret, where it stands in the configuration, and the user it belongs to.
struct Planted {
    place: &'static str,
    user: &'static str,
    value: String,
}

/// What was seen, and where.
#[derive(Default)]
struct Seen(Vec<(String, String)>);

impl Seen {
    fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    /// Every secret that was seen, in whatever form a program writes one: as it is, within JSON, within Rust's debug output, in the
    /// forms of basic and of SASL's plain authentication, in an address.
    fn leaks(&self, secrets: &[Planted]) -> Vec<String> {
        let mut leaks = Vec::new();
        for Planted { place, user, value } in secrets {
            let json = serde_json::Value::from(value.as_str()).to_string();
            let forms = [
                value.clone(),
                json.trim_matches('"').to_owned(),
                format!("{value:?}").trim_matches('"').to_owned(),
                STANDARD.encode(value),
                STANDARD.encode(format!("{user}:{value}")),
                STANDARD.encode(format!("\0{user}\0{value}")),
                value.bytes().fold(String::new(), |mut text, byte| {
                    _ = write!(text, "{byte:02x}");
                    text
                }),
            ];
            for (seen, text) in &self.0 {
                if let Some(form) = forms.iter().find(|form| text.contains(form.as_str())) {
                    leaks.push(format!("{place} is in {seen} as {form:?}"));
                }
            }
        }
        leaks
    }
}

/// Servers, topics and secrets of one run.
struct Scene {
    folder: tempfile::TempDir,
    mqtt: String,
    kafka: [String; 3],
    registry: String,
    topic: String,
    secrets: Vec<Planted>,
}

impl Scene {
    fn find() -> Option<Self> {
        let server = servers::server;
        let kafka = [servers::kafka()?, server("IOTML_KAFKA_SASL_TLS")?, server("IOTML_KAFKA_MUTUAL_TLS")?];
        let folder = tempfile::tempdir().unwrap();
        let certificates = server("IOTML_KAFKA_CERTIFICATES")?;
        for name in ["ca.pem", "client.pem", "client.key"] {
            std::fs::copy(Path::new(&certificates).join(name), folder.path().join(name)).unwrap();
        }
        let key = std::fs::read_to_string(folder.path().join("client.key")).unwrap();
        let registry_password = "hunter-registry-7\\\"pass".to_owned();
        let properties = "registry = hunter-registry-7\\\\\"pass\nkey = hunter-file-8\n";
        std::fs::write(folder.path().join("secrets.properties"), properties).unwrap();
        let planted = |place, user, value: String| Planted { place, user, value };
        let secrets = vec![
            planted("source.password", "iotml", server("IOTML_MOSQUITTO_PASSWORD")?),
            planted("route sink sasl.password", "iotml", server("IOTML_KAFKA_PASSWORD")?),
            planted("decode.registry.password", "scoring", registry_password),
            planted("a line of ssl.key.pem", "", key.lines().nth(1).unwrap().to_owned()),
            planted("route sink password", "iotml", "hunter-mqtt-9".to_owned()),
            planted("decode.registry.token", "", "hunter-token-10".to_owned()),
            planted("http.token", "", "hunter-http-token-13".to_owned()),
            planted("a misspelt key", "", "hunter-misspelt-11".to_owned()),
            planted("a value from a file", "", "hunter-file-8".to_owned()),
            planted("wrong sasl.password", "iotml", "hunter-wrong-12".to_owned()),
        ];
        Some(Self {
            folder,
            mqtt: server("IOTML_MOSQUITTO_AUTH")?,
            kafka,
            registry: servers::registry()?,
            topic: fresh("secrets"),
            secrets,
        })
    }

    fn secret(&self, place: &str) -> &str {
        &self.secrets.iter().find(|secret| secret.place == place).unwrap().value
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A configuration with a secret in every place that takes one: as it is, from the environment and from a file.
    fn config(&self, log: &str) -> String {
        let [_, sasl, mutual] = &self.kafka;
        let Self { mqtt, registry, topic, .. } = self;
        let (ca, properties) = (self.path("ca.pem"), self.path("secrets.properties"));
        let certificate = std::fs::read_to_string(self.path("client.pem")).unwrap();
        let key = std::fs::read_to_string(self.path("client.key")).unwrap();
        let password = self.secret("source.password");
        let token = self.secret("http.token");
        format!(
            r#"[pipeline]
name = "{topic}"
"errors.tolerance" = "all"
restart_max = 0
[source]
type = "mqtt"
server = "mqtt://{mqtt}"
username = "iotml"
password = "{password}"
topics = [{{ filter = "{topic}/{{car}}", key = "{{car}}" }}]
[decode]
type = "confluent_avro"
[decode.registry]
url = "{registry}"
username = "scoring"
password = "${{file:{properties}:registry}}"
[[route]]
name = "out"
encode = {{ type = "json" }}
[route.sink]
type = "kafka"
topic = "{topic}"
create_topics = {{ partitions = 1 }}
[route.sink.kafka]
"bootstrap.servers" = "{sasl}"
"security.protocol" = "SASL_SSL"
"ssl.ca.location" = "{ca}"
"sasl.mechanism" = "SCRAM-SHA-512"
"sasl.username" = "iotml"
"sasl.password" = "${{env:IOTML_TEST_SECRET}}"
"client.rack" = "${{file:{properties}:key}}"
debug = "all"
[[route]]
name = "alerts"
required = false
encode = {{ type = "json" }}
[route.sink]
type = "mqtt"
server = "mqtt://{mqtt}"
username = "iotml"
password = "{password}"
topic = "{topic}-alerts/{{key}}"
[dead_letter]
type = "kafka"
topic = "{topic}-dead"
create_topics = {{ partitions = 1 }}
[dead_letter.kafka]
"bootstrap.servers" = "{mutual}"
"security.protocol" = "SSL"
"ssl.ca.location" = "{ca}"
"ssl.certificate.pem" = """{certificate}"""
"ssl.key.pem" = """{key}"""
debug = "all"
[http]
listen = "127.0.0.1:0"
token = "{token}"
[log]
level = "trace"
format = "{log}"
"#
        )
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(WORKER);
        command.args(arguments).current_dir(checkout()).stdin(Stdio::null());
        command.env("IOTML_TEST_SECRET", self.secret("route sink sasl.password")).env_remove("RUST_LOG");
        command
    }

    /// Runs a command of the worker to its end.
    fn says(&self, arguments: &[&str], expected: i32, seen: &mut Seen) -> String {
        let output = self.command(arguments).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(expected), "{arguments:?}: {text}");
        seen.add(format!("worker {}", arguments.join(" ")), &text);
        text
    }
}

/// Runs the pipeline on a good message and two bad ones, and looks at it while it runs.
fn works(scene: &Scene, log: &str, seen: &mut Seen) {
    let file = scene.path(&format!("{log}.toml"));
    std::fs::write(&file, scene.config(log)).unwrap();
    let mut worker = scene.command(&["run", &file]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(worker.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut logged = String::new();
    let mut address = None;
    while address.is_none() {
        let line = lines.next().unwrap_or_else(|| panic!("the worker ended: {logged}"));
        address = line.split_once("at http://").map(|(_, rest)| rest.split_once("/metrics").unwrap().0.to_owned());
        logged.push_str(&line);
        logged.push('\n');
    }
    // Read on, so that the worker does not wait for its own output.
    let reader = std::thread::spawn(move || lines.fold(logged, |logged, line| logged + &line + "\n"));
    let address = address.unwrap();
    let late = Instant::now() + PATIENCE;
    let wait_for = |text: &str| {
        while !get(&address, "/healthz", None).contains(text) {
            assert!(Instant::now() < late, "{}", get(&address, "/healthz", None));
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    while !get(&address, "/readyz", None).starts_with("HTTP/1.1 200 ") {
        assert!(Instant::now() < late, "{}", get(&address, "/readyz", None));
    }
    publish(scene);
    wait_for("delivered 1 + dead-lettered 2");
    let name = &scene.topic;
    let paths = ["", "/config", "/status", "/tasks", "/tasks/0/status", "/offsets"]
        .map(|path| format!("/connectors/{name}{path}"));
    let more = ["/metrics", "/healthz", "/readyz", "/audit", "/connectors?expand=info&expand=status", "/nowhere"]
        .map(str::to_owned);
    for path in paths.iter().chain(&more) {
        for token in [Some(scene.secret("http.token")), Some("hunter-wrong-http-token"), None] {
            let answer = get(&address, path, token);
            // What does not exist has nothing to hide.
            let is_open = ["/metrics", "/healthz", "/readyz", "/nowhere"].contains(&path.as_str());
            let is_let_in = is_open || token == Some(scene.secret("http.token"));
            assert_eq!(answer.starts_with("HTTP/1.1 401 "), !is_let_in, "{path} with {token:?}: {answer}");
            seen.add(format!("{path} with {log} logs"), answer);
        }
    }
    let url = format!("http://{address}");
    for command in ["audit", "status"] {
        let output = scene.command(&[command, &url]).env("IOTML_TOKEN", scene.secret("http.token")).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        seen.add(format!("worker {command}"), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    }
    let terminated = Command::new("kill").args(["-TERM", &worker.id().to_string()]).status().unwrap();
    assert!(terminated.success());
    let logged = reader.join().unwrap();
    let mut printed = String::new();
    worker.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert!(worker.wait().unwrap().success(), "{logged}");
    assert!(logged.contains("TRACE") && logged.contains("librdkafka"), "everything is logged: {} bytes", logged.len());
    seen.add(format!("{log} logs"), logged);
    seen.add(format!("stdout with {log} logs"), printed);
}

/// A good message, one of a schema that is not there, and one that is none.
fn publish(scene: &Scene) {
    let schema = r#"{"type": "record", "name": "S", "fields": [{"name": "x", "type": "float"}]}"#;
    let subject = fresh("secrets");
    let registration = Registration { subject: &subject, schema, auto_register: true, compatibility: None };
    let mut connection = ConnectionConfig::new(format!("mqtt://{}", scene.mqtt));
    connection.username = Some("iotml".to_owned());
    connection.password = Some(Secret::new(scene.secret("source.password")));
    let sink = MqttSinkConfig { connection, ..MqttSinkConfig::new("", format!("{}/{{key}}", scene.topic)) };
    let sink = MqttSink::new(sink).unwrap();
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
        let registry = SchemaRegistry::new(SchemaRegistryConfig::new(&scene.registry)).unwrap();
        let id = registry.register(registration).await.unwrap();
        let good = [&[0], &id.to_be_bytes()[..], &1f32.to_le_bytes()].concat();
        sink.open(&TaskContext::single("test")).await.unwrap();
        let written = sink.write(outgoing(&[&good, &[0, 0x7f, 0, 0, 0, 1], b"no frame"])).await.unwrap();
        assert!(written.rejected.is_empty() && written.retryable.is_empty(), "{written:?}");
        sink.close().await.unwrap();
    });
}

fn outgoing(payloads: &[&[u8]]) -> Outgoing {
    let (mut raw, mut messages) = (RawBatch::default(), Messages::default());
    for (seq, payload) in payloads.iter().enumerate() {
        let message = Message { payload: Some(payload), key: Some(b"ev-1"), ..Message::default() };
        let position = Position { lane: Lane(0), seq: seq as u64 };
        raw.push(RawMessage { message, position, coordinate: Coordinate::NONE });
        messages.push(message);
    }
    Outgoing { batch: Batch::undecoded(Arc::new(raw)), messages: Arc::new(messages) }
}

fn get(address: &str, path: &str, token: Option<&str>) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let token = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n{token}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Everything that was written to a topic: payloads, keys, headers.
fn written(scene: &Scene, topic: &str, seen: &mut Seen) -> usize {
    let mut log = LogReader::open(LogReaderConfig::new(&scene.kafka[0], topic)).unwrap();
    let range = log.resolve(&Select::All).unwrap();
    log.begin(&range, Until::End).unwrap();
    let mut n_messages = 0;
    loop {
        match log.next(100, Duration::from_millis(100)).unwrap() {
            LogEvent::Batch(batch) => {
                let messages = batch.messages();
                for row in 0..batch.len() {
                    let mut text = String::from_utf8_lossy(messages.payload(row).unwrap_or_default()).into_owned();
                    for header in messages.headers().of(row) {
                        let value = String::from_utf8_lossy(header.value.unwrap_or_default());
                        _ = write!(text, "\n{}: {value}", header.name);
                    }
                    seen.add(format!("a message of {topic}"), text);
                    n_messages += 1;
                }
            }
            LogEvent::Idle => {}
            LogEvent::End => return n_messages,
        }
    }
}

/// Runs the worker with something that the far side refuses.
fn refused(scene: &Scene, what: &str, change: impl Fn(String) -> String, seen: &mut Seen) {
    for log in ["text", "json"] {
        let file = scene.path("refused.toml");
        let config = scene.config(log);
        let changed = change(config.clone());
        assert_ne!(config, changed, "{what} changes nothing");
        std::fs::write(&file, changed).unwrap();
        let output = scene.command(&["run", &file]).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{what}: {text}");
        seen.add(format!("{what}, {log} logs"), text);
    }
}

/// A registry that lets nobody in; its address.
fn refusing_registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            _ = stream.read(&mut [0; 4096]);
            _ = stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    format!("http://{address}")
}

#[test]
fn inv_10_no_secret_is_in_anything_that_a_worker_says_serves_or_writes() {
    let Some(scene) = Scene::find() else { return };
    let mut seen = Seen::default();
    for log in ["text", "json"] {
        works(&scene, log, &mut seen);
    }
    assert_eq!(written(&scene, &format!("{}-dead", scene.topic), &mut seen), 4, "dead letters of both runs");
    assert_eq!(written(&scene, &scene.topic, &mut seen), 2);

    let file = scene.path("text.toml");
    assert!(scene.says(&["validate", "--show", &file], 0, &mut seen).contains("***"));
    for arguments in [
        &["graph", &file][..],
        &["graph", "--format", "mermaid", &file],
        &["schema"],
        &["plugins", "describe", "kafka"],
    ] {
        scene.says(arguments, 0, &mut seen);
    }

    let mqtt = format!("password = \"{}\"\ntopic ", scene.secret("source.password"));
    let wrong_mqtt = format!("password = \"{}\"\ntopic ", scene.secret("route sink password"));
    refused(&scene, "a wrong password of MQTT", |config| config.replace(&mqtt, &wrong_mqtt), &mut seen);
    let wrong = scene.secret("wrong sasl.password").to_owned();
    for mechanism in ["SCRAM-SHA-512", "PLAIN"] {
        let change =
            |config: String| config.replace("${env:IOTML_TEST_SECRET}", &wrong).replace("SCRAM-SHA-512", mechanism);
        refused(&scene, &format!("a wrong password of Kafka by {mechanism}"), change, &mut seen);
    }
    let registry = refusing_registry();
    let token = format!("token = \"{}\"", scene.secret("decode.registry.token"));
    let publisher = std::thread::scope(|scope| {
        // The registry is asked when the first message comes.
        let publishing = scope.spawn(|| {
            let late = Instant::now() + PATIENCE;
            while Instant::now() < late && !std::fs::exists(scene.path("done")).unwrap() {
                publish(&scene);
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        let change = |config: String| {
            let start = config.find("username = \"scoring\"").unwrap();
            let end = start + config[start..].find("[[route]]").unwrap();
            format!("{}{token}\n{}", &config[..start], &config[end..]).replace(&scene.registry, &registry)
        };
        refused(&scene, "a wrong token of the registry", change, &mut seen);
        std::fs::write(scene.path("done"), "").unwrap();
        publishing.join()
    });
    publisher.unwrap();

    let misspelt = scene.secret("a misspelt key");
    for (what, from, to) in [
        (
            "a misspelt property",
            "\"sasl.password\" = \"${env:IOTML_TEST_SECRET}\"",
            format!("\"sasl.pasword\" = \"{misspelt}\""),
        ),
        ("a misspelt key", "username = \"iotml\"\npassword = ", format!("pasword = \"{misspelt}\"\npassword = ")),
        (
            "a list for a password",
            "username = \"scoring\"\npassword = ",
            format!("username = \"scoring\"\ntoken = [\"{misspelt}\"]\npassword = "),
        ),
        ("a user in an address", "server = \"mqtt://", format!("server = \"mqtt://me:{misspelt}@")),
        ("no TOML", "[dead_letter]\n", format!("[dead_letter]\npassword = {misspelt}\n")),
    ] {
        let config = scene.config("text");
        let wrong = config.replacen(from, &to, 1);
        assert_ne!(config, wrong, "{what} changes nothing");
        let file = scene.path("wrong.toml");
        std::fs::write(&file, wrong).unwrap();
        let output = scene.command(&["validate", "--show", &file]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{what}: {output:?}");
        seen.add(what, String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    }

    let n_bytes: usize = seen.0.iter().map(|(_, text)| text.len()).sum();
    println!("{} texts of {n_bytes} bytes in all were searched for {} secrets", seen.0.len(), scene.secrets.len());
    assert_eq!(seen.leaks(&scene.secrets), [] as [String; 0]);

    // The search can find something: a secret at the end of any of these would have been found, in any of its forms.
    for Planted { place, user, value } in &scene.secrets {
        for form in
            [value.clone(), STANDARD.encode(format!("{user}:{value}")), serde_json::json!({ "a": value }).to_string()]
        {
            let (seen_at, text) = seen.0.iter().max_by_key(|(_, text)| text.len()).unwrap();
            let mut with_leak = Seen::default();
            with_leak.add(seen_at, format!("{text}{form}"));
            let leaks = with_leak.leaks(&scene.secrets);
            assert!(leaks.iter().any(|leak| leak.starts_with(place)), "{place} as {form}: {leaks:?}");
        }
    }
}

/// The same search on a worker that does print one: its configuration has it in a place where no secret belongs.
#[test]
fn the_search_for_secrets_finds_one_where_none_belongs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leak.toml");
    let config = "[pipeline]\nname = \"p\"\n[source]\ntype = \"mqtt\"\nserver = \"localhost\"\n\
                  topics = [{ filter = \"hunter-topic-1/#\" }]\n[[route]]\nname = \"r\"\nsink = { type = \"stdout\" }\n";
    std::fs::write(&file, config).unwrap();
    let output = Command::new(WORKER).args(["validate", "--show"]).arg(&file).output().unwrap();
    let mut seen = Seen::default();
    seen.add("worker validate --show", String::from_utf8_lossy(&output.stdout));
    let leaks = seen.leaks(&[Planted { place: "a topic", user: "", value: "hunter-topic-1".to_owned() }]);
    assert_eq!(leaks, ["a topic is in worker validate --show as \"hunter-topic-1\""]);
}
