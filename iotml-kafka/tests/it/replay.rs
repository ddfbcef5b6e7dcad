//! `replay`, run as a process of its own: this test binary, which becomes a worker when the environment says so.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use iotml_core::cli;
use iotml_core::pipeline::header;
use iotml_core::plugin::Registry;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::cluster::{Cluster, PATIENCE, blocking, text, unique};

/// Set to the arguments, one a line, in the process that is to be a worker.
const ARGUMENTS: &str = "IOTML_TEST_REPLAY";

#[test]
fn worker() {
    let mut registry = Registry::with_core();
    iotml_kafka::register(&mut registry);
    let Ok(arguments) = std::env::var(ARGUMENTS) else {
        assert_eq!(registry.commands.len(), 1);
        return;
    };
    let arguments = std::iter::once("worker").chain(arguments.lines()).map(OsString::from);
    let code = cli::main_with(registry, arguments);
    // An exit code cannot be taken apart, so it is compared.
    let number = (0..=2).find(|number| format!("{:?}", std::process::ExitCode::from(*number)) == format!("{code:?}"));
    std::process::exit(number.map_or(99, i32::from));
}

fn command(arguments: &[String]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "replay::worker", "--nocapture", "--quiet"]).env(ARGUMENTS, arguments.join("\n"));
    command.env_remove("RUST_LOG").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs `replay` with these arguments: exit code, stdout without the test harness's own line, stderr.
async fn replay(arguments: &[&str]) -> (i32, String, String) {
    let arguments: Vec<String> = ["replay"].iter().chain(arguments).map(|it| (*it).to_owned()).collect();
    blocking(move || {
        let Output { status, stdout, stderr } = command(&arguments).output().unwrap();
        let stdout = text(&stdout);
        let own = stdout.split_once("running 1 test\n").map_or(stdout.as_str(), |(_, own)| own);
        (status.code().unwrap_or(-1), own.to_owned(), text(&stderr))
    })
    .await
}

/// The same, which must go well; stdout.
async fn replayed(cluster: &Cluster, topic: &str, more: &[&str]) -> String {
    let arguments = [&["--brokers", &cluster.servers, "--topic", topic], more].concat();
    let (code, out, err) = replay(&arguments).await;
    assert_eq!(code, 0, "{out}{err}");
    out
}

/// A dead letter as the pipeline writes one.
#[derive(Clone)]
struct Letter {
    payload: String,
    key: String,
    headers: Vec<(String, String)>,
}

impl Letter {
    fn new(n: usize, origin: &str, reason: &str) -> Self {
        let context = [
            ("trace", &*format!("t-{n}")),
            (header::TOPIC, origin),
            (header::PARTITION, "0"),
            (header::OFFSET, &*n.to_string()),
            (header::CONNECTOR, "score"),
            (header::STAGE, "decode"),
            (header::MESSAGE, "schema 77 is not known"),
            (header::REASON, reason),
        ];
        let headers = context.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { payload: format!("message {n:06}"), key: format!("car-{}", n % 7), headers }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

const TIME: i64 = 1_700_000_000_000;

/// Writes letters, evenly over `n_partitions`; letter `n` has time `TIME + n`.
async fn write(cluster: &Cluster, topic: &str, n_partitions: i32, letters: Vec<Letter>) {
    let (mut client, topic) = (cluster.client(), topic.to_owned());
    blocking(move || {
        client.set("queue.buffering.max.messages", "1000000");
        let producer: ThreadedProducer<DefaultProducerContext> = client.create().unwrap();
        for (n, letter) in (0..).zip(&letters) {
            let headers = letter
                .headers
                .iter()
                .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
            let record = BaseRecord::to(&topic).partition(n % n_partitions).key(&letter.key).payload(&letter.payload);
            let record = record.headers(headers).timestamp(TIME + i64::from(n));
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    })
    .await;
}

fn headers(message: &OwnedMessage) -> BTreeMap<String, String> {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    headers.map(|header| (header.key.to_owned(), text(header.value.unwrap_or_default()))).collect()
}

fn payloads(messages: &[OwnedMessage]) -> Vec<String> {
    let mut payloads: Vec<_> = messages.iter().map(|message| text(message.payload().unwrap())).collect();
    payloads.sort();
    payloads
}

fn numbered(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|n| format!("message {n:06}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_1_7_letters_go_back_to_where_they_came_from_once_and_as_they_were() {
    for cluster in Cluster::all() {
        let (letters, first, second) =
            (cluster.topic(3, &[]).await, cluster.topic(2, &[]).await, cluster.topic(1, &[]).await);
        let all = (0..100).map(|n| Letter::new(n, if n < 60 { &first } else { &second }, "unknown_schema_id"));
        write(&cluster, &letters, 3, all.collect()).await;
        let out = replayed(&cluster, &letters, &[]).await;
        assert!(out.starts_with("read 100, matched 100, replayed 100, left out by --max-replays 0,"), "{out}");
        let (to_first, to_second) = (cluster.read(&first, 60).await, cluster.read(&second, 40).await);
        assert_eq!((payloads(&to_first), payloads(&to_second)), (numbered(0..60), numbered(60..100)));
        for message in to_first.iter().chain(&to_second) {
            let n: i64 = text(message.payload().unwrap())["message ".len()..].parse().unwrap();
            assert_eq!(text(message.key().unwrap()), format!("car-{}", n % 7));
            assert_eq!(message.timestamp().to_millis(), Some(TIME + n));
            let wanted = [("trace".to_owned(), format!("t-{n}")), (header::REPLAYS.to_owned(), "1".to_owned())];
            assert_eq!(headers(message), BTreeMap::from(wanted));
        }

        // Once more: there is nothing left, until a new one comes.
        let out = replayed(&cluster, &letters, &[]).await;
        assert!(out.starts_with("read 0, matched 0, replayed 0,"), "{out}");
        write(&cluster, &letters, 1, vec![Letter::new(100, &second, "malformed")]).await;
        let out = replayed(&cluster, &letters, &["--dry-run"]).await;
        assert!(out.starts_with("read 1, matched 1, replayed 0,") && out.contains("1 would be"), "{out}");
        let out = replayed(&cluster, &letters, &[]).await;
        assert!(out.starts_with("read 1, matched 1, replayed 1,"), "{out}");
        assert_eq!(payloads(&cluster.read(&second, 41).await), numbered(60..101));

        let out = replayed(&cluster, &letters, &["--from-beginning", "--to", &second, "--limit", "7"]).await;
        assert!(out.contains("replayed 7,"), "{out}");
        assert_eq!(cluster.read(&second, 48).await.len(), 48);
        // An in-memory cluster lets nobody but a member set a known group back.
        if !cluster.is_embedded() {
            let out = replayed(&cluster, &letters, &["--from-beginning"]).await;
            assert!(out.starts_with("read 101, matched 101, replayed 101,"), "{out}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_meant_is_chosen_by_conditions_shown_and_limited() {
    for cluster in Cluster::all() {
        let (letters, origin) = (cluster.topic(1, &[]).await, cluster.topic(1, &[]).await);
        let reason = |n| if n % 2 == 0 { "unknown_schema_id" } else { "malformed" };
        write(&cluster, &letters, 1, (0..40).map(|n| Letter::new(n, &origin, reason(n))).collect()).await;

        let chosen = ["--reason", "malformed", "--offsets", "0:10-29", "--since", "2023-11-14T22:13:20.015Z"];
        let out = replayed(&cluster, &letters, &[&chosen[..], &["--list", "--format", "json"]].concat()).await;
        let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let offsets: Vec<_> = lines.iter().map(|line| line["offset"].as_i64().unwrap()).collect();
        assert_eq!(offsets, [15, 17, 19, 21, 23, 25, 27, 29]);
        assert_eq!((&lines[0]["first_bytes"], &lines[0]["reason"]), (&"message 000015".into(), &"malformed".into()));
        assert_eq!((&lines[0]["origin"]["topic"], &lines[0]["time"]), (&origin.clone().into(), &(TIME + 15).into()));
        let table = replayed(&cluster, &letters, &["--list", "--limit", "3"]).await;
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(table.contains("0:2 ") && table.contains("schema 77 is not known | message 000002"), "{table}");

        let out = replayed(&cluster, &letters, &[&chosen[..], &["--dry-run"]].concat()).await;
        assert!(out.starts_with("read 40, matched 8, replayed 0,"), "{out}");
        let out = replayed(&cluster, &letters, &[&chosen[..], &["--limit", "5"]].concat()).await;
        assert!(out.starts_with("read 24, matched 5, replayed 5,"), "{out}");
        let out = replayed(&cluster, &letters, &chosen).await;
        assert!(out.starts_with("read 16, matched 3, replayed 3,"), "{out}");
        assert_eq!(payloads(&cluster.read(&origin, 8).await), numbered((15..30).step_by(2)));
        // Other conditions begin anew: what the first left out is not lost for them.
        let out = replayed(&cluster, &letters, &["--reason", "unknown_schema_id", "--key", "car-0"]).await;
        assert!(out.starts_with("read 40, matched 3, replayed 3,"), "{out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_7_a_message_that_fails_again_and_again_does_not_circle_for_ever() {
    let cluster = Cluster::embedded();
    let (letters, origin) = (cluster.topic(1, &[]).await, cluster.topic(1, &[]).await);
    let mut letter = Letter::new(0, &origin, "malformed");
    for round in 1..=4 {
        write(&cluster, &letters, 1, vec![letter.clone()]).await;
        let out = replayed(&cluster, &letters, &[]).await;
        let n_replayed = usize::from(round <= 3);
        assert!(out.contains(&format!("replayed {n_replayed}, left out by --max-replays {}", 1 - n_replayed)), "{out}");
        let back = cluster.read(&origin, round.min(3)).await;
        let n = headers(back.last().unwrap())[header::REPLAYS].clone();
        assert_eq!(n, round.min(3).to_string());
        // The pipeline fails again, and its letter keeps the header.
        letter = Letter::new(0, &origin, "malformed").with(header::REPLAYS, &n);
    }
    let out = replayed(&cluster, &letters, &["--group", &unique("group"), "--max-replays", "4"]).await;
    assert!(out.contains("replayed 4, left out by --max-replays 0"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_go_back_is_counted_and_no_pipeline_is_needed_to_name_another_topic() {
    let cluster = Cluster::embedded();
    let (letters, other) = (cluster.topic(1, &[]).await, cluster.topic(1, &[]).await);
    let from_mqtt = Letter::new(0, "vehicles/sensor/data/car-1", "malformed");
    let cut = Letter::new(1, &other, "oversized").with(header::CUT, "5000000");
    let plain = Letter { headers: Vec::new(), ..Letter::new(2, "", "") };
    write(&cluster, &letters, 1, vec![from_mqtt, cut, plain]).await;
    let out = replayed(&cluster, &letters, &[]).await;
    assert!(out.contains("read 3, matched 3, replayed 0,"), "{out}");
    assert!(out.contains("without a topic to go back to 2, cut short when received 1"), "{out}");
    let out = replayed(&cluster, &letters, &["--to", &other]).await;
    assert!(out.contains("read 3, matched 3, replayed 2,"), "{out}");
    assert_eq!(payloads(&cluster.read(&other, 2).await), numbered([0, 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_1_a_replay_that_is_killed_loses_nothing_and_goes_on_where_it_was() {
    const N: usize = 30_000;
    for cluster in Cluster::all() {
        let (letters, origin) = (cluster.topic(2, &[]).await, cluster.topic(1, &[]).await);
        write(&cluster, &letters, 2, (0..N).map(|n| Letter::new(n, &origin, "malformed")).collect()).await;
        let arguments = ["replay", "--brokers", &cluster.servers, "--topic", &letters].map(str::to_owned);
        let (mut watched, end, group) = (cluster.client(), origin.clone(), format!("iotml-replay/{letters}"));
        let mut places = TopicPartitionList::new();
        places.add_partition_range(&letters, 0, 1);
        blocking(move || {
            let mut child = command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let consumer: BaseConsumer = watched.set("group.id", group).create().unwrap();
            let began = Instant::now();
            loop {
                let (_, high) = consumer.fetch_watermarks(&end, 0, PATIENCE).unwrap();
                let kept = consumer.committed_offsets(places.clone(), PATIENCE).unwrap();
                // Before the first commit there is no place to go on from.
                if high > 10_000 && kept.elements().iter().any(|it| matches!(it.offset(), Offset::Offset(1..))) {
                    break;
                }
                assert!(began.elapsed() < PATIENCE, "{high} messages are back, {kept:?}");
                std::thread::sleep(Duration::from_millis(1));
            }
            // SIGKILL: nothing is said to anybody.
            child.kill().unwrap();
            child.wait().unwrap();
        })
        .await;
        let n_before = cluster.read(&origin, 10_000).await.len();
        let out = replayed(&cluster, &letters, &[]).await;
        let n_read: usize = out["read ".len()..].split(',').next().unwrap().parse().unwrap();
        assert!(n_read < N, "it went on where it was: {out}");
        let back = cluster.read(&origin, N).await;
        let distinct: BTreeSet<_> = payloads(&back).into_iter().collect();
        println!("{N} letters: {n_before} back when killed, {} twice in the end; then {out}", back.len() - N);
        assert_eq!(distinct.into_iter().collect::<Vec<_>>(), numbered(0..N));
        assert!(back.len() <= N + n_before, "only what was not committed comes twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_10_wrong_arguments_are_told_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cars.toml");
    let plain = "[pipeline]\nname = \"cars\"\n[source]\ntype = \"kafka\"\ntopics = [\"a\"]\n[source.kafka]\n\
                 \"bootstrap.servers\" = \"127.0.0.1:1\"\n[[route]]\nname = \"out\"\nsink = { type = \"stdout\" }\n";
    std::fs::write(&file, plain).unwrap();
    let file = file.to_str().unwrap();
    let wrong: [(&[&str], i32, &str); 7] = [
        (&[], 2, "required"),
        (&["--brokers", "127.0.0.1:1"], 2, "--topic"),
        (&[file], 2, "no [dead_letter] table"),
        (&[file, "--pipeline", "other"], 2, "--pipeline"),
        (&["--brokers", "127.0.0.1:1", "--topic", "a", "--offsets", "5"], 2, "0:100-199"),
        (&["--brokers", "127.0.0.1:1", "--topic", "a", "--to", "a/b"], 2, "\"a/b\" is not a name"),
        (&["--brokers", "127.0.0.1:1", "--topic", "a", "-X", "sasl.password=hunter2"], 1, "no Kafka broker"),
    ];
    for (arguments, code, part) in wrong {
        let (exit, out, err) = replay(arguments).await;
        assert_eq!(exit, code, "{arguments:?}: {out}{err}");
        assert!(err.contains(part), "{part} in {err}");
        assert!(!err.contains("hunter2") && !out.contains("hunter2"), "{out}{err}");
    }
}
