//! Input made to take time or memory: every message of it is a rejected row (invariant 7), soon, and in a bounded address space.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use iotml_core::batch::{Coordinate, Lane, LaneInfo, Message, Position, RawBatch, RawMessage};
use iotml_core::decode::{
    AvroDecoder, AvroDecoderConfig, ColumnConfig, ColumnType, CsvDecoder, CsvDecoderConfig, Decoder, JsonDecoder,
    JsonDecoderConfig, PassThrough,
};
use iotml_core::encode::{JsonEncoder, JsonEncoderConfig};
use iotml_core::error::Reason;
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::{Pipeline, PipelineOptions, PipelineSpec, Route, TaskStages, Tolerance, header};
use iotml_core::source::SourceEvent;
use iotml_core::testing::rows::raw_batch;
use iotml_core::testing::{MemoryLog, MemorySink, Scripted};

/// Set in the process that has only so much address space.
const CONFINED: &str = "IOTML_TEST_CONFINED";

/// Address space for everything below, threads and libraries included. Without the limits one JSON message of 512 KiB asks for
/// more than this, and for minutes.
const KIB: u32 = 1 << 20;

/// For one batch of a thousand or of 32 MiB, in a build without optimisation on a machine that does other things, too. Without the
/// limits it would be hours.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn inv_7_hostile_messages_are_rejected_rows_in_bounded_time_and_memory() {
    if std::env::var_os(CONFINED).is_some() {
        json();
        csv();
        avro();
        return;
    }
    let mut confined = Command::new("sh");
    confined.args(["-c", &format!("ulimit -v {KIB} && exec \"$@\""), "sh"]).arg(std::env::current_exe().unwrap());
    let name = "hostile::inv_7_hostile_messages_are_rejected_rows_in_bounded_time_and_memory";
    confined.args(["--exact", name, "--nocapture", "--test-threads", "1"]).env(CONFINED, "1").stdin(Stdio::null());
    let output = confined.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

/// Decodes a whole batch of copies, all of which must be rejected for `reason`.
fn rejected(what: &str, decoder: &mut dyn Decoder, payload: &[u8], reason: Reason) {
    let n_copies = (32 * 1024 * 1024 / payload.len().max(1)).clamp(1, 1_000);
    let raw = raw_batch((0..n_copies).map(|_| Some(payload)));
    let begun = Instant::now();
    let output = decoder.decode(&raw).unwrap();
    assert!(begun.elapsed() < SOON, "{what}: {:?} for {n_copies} messages", begun.elapsed());
    assert_eq!((output.batch.len(), output.rejected.len()), (0, n_copies), "{what}");
    for rejected in &output.rejected {
        assert_eq!(rejected.cause.reason, reason, "{what}: {}", rejected.cause.detail);
        assert!(rejected.cause.detail.len() < 1_000, "{what}: {} bytes of detail", rejected.cause.detail.len());
    }
}

fn json() {
    let inferring = || JsonDecoder::new(JsonDecoderConfig::default()).unwrap();
    let fields = |n: usize, name: &str| {
        let fields: Vec<String> = (0..n).map(|at| format!("\"{name}{at}\":1")).collect();
        format!("{{{}}}", fields.join(","))
    };
    rejected("50,000 fields", &mut inferring(), fields(50_000, "").as_bytes(), Reason::Oversized);
    rejected("1,025 fields", &mut inferring(), fields(1_025, "f").as_bytes(), Reason::Oversized);
    let outer = "n".repeat(250_000);
    let nested = format!("{{\"{outer}\":{}}}", fields(20_000, "x"));
    rejected("names within a long name", &mut inferring(), nested.as_bytes(), Reason::Oversized);
    // As many fields as may be, and a fault behind them: each message asks for columns anew.
    let faulty = fields(1_000, "f").replace("\"f999\":1", "\"f0\":1");
    rejected("a fault behind many fields", &mut inferring(), faulty.as_bytes(), Reason::Malformed);
    let deep = format!("{{\"a\":{}", "[".repeat(500_000));
    rejected("depth", &mut inferring(), deep.as_bytes(), Reason::TooDeep);
    rejected("size", &mut inferring(), &vec![b' '; 600_000], Reason::Oversized);
    let digits = format!("{{\"a\":{}e{}}}", "9".repeat(250_000), "9".repeat(250_000));
    rejected("a number of many digits", &mut inferring(), digits.as_bytes(), Reason::OutOfRange);

    let wide = JsonDecoderConfig { max_fields: 2_000, ..JsonDecoderConfig::default() };
    let output = JsonDecoder::new(wide).unwrap().decode(&raw_batch([Some(fields(1_025, "f"))])).unwrap();
    assert_eq!(output.batch.columns().num_columns(), 1_025, "the limit is a setting");
}

fn csv() {
    let with_header = |max_fields| {
        CsvDecoder::new(CsvDecoderConfig { header: true, max_fields, ..CsvDecoderConfig::default() }).unwrap()
    };
    let header = |n: usize| (0..n).map(|at| format!("f{at}")).collect::<Vec<_>>().join(",");
    rejected("fields", &mut with_header(1_024), header(60_000).as_bytes(), Reason::Oversized);
    let row = format!("a\n{}", ",".repeat(500_000));
    rejected("fields of a row", &mut with_header(1_024), row.as_bytes(), Reason::Oversized);
    let faulty = format!("{}\n1", header(1_000));
    rejected("a fault behind many fields", &mut with_header(1_024), faulty.as_bytes(), Reason::WrongSchema);

    // A header of its own in every message, against many columns.
    let columns = (0..1_000).map(|at| ColumnConfig::new(format!("f{at}"), ColumnType::Float32)).collect();
    let config = CsvDecoderConfig { header: true, columns: Some(columns), ..CsvDecoderConfig::default() };
    let mut decoder = CsvDecoder::new(config).unwrap();
    let payloads: Vec<String> = (0..1_000).map(|n| format!("x{n},{}\n1", header(1_000))).collect();
    let begun = Instant::now();
    let output = decoder.decode(&raw_batch(payloads.iter().map(Some))).unwrap();
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(output.rejected.len(), 1_000);

    let output = with_header(2).decode(&raw_batch([Some("a,b\n1,2"), Some("a,b,c\n1,2,3")])).unwrap();
    assert_eq!((output.batch.len(), output.rejected[0].row), (1, 1), "as many as the limit are taken");
}

fn avro() {
    let decoder = |schema: &str| AvroDecoder::new(AvroDecoderConfig::new(schema)).unwrap();
    let refused = |schema: String| {
        let begun = Instant::now();
        let error = AvroDecoder::new(AvroDecoderConfig::new(schema)).err().expect("refused").to_string();
        assert!(begun.elapsed() < SOON, "{:?}: {error}", begun.elapsed());
        assert!(error.len() < 1_000, "{} bytes: {error}", error.len());
        error
    };
    let text = r#"{"type": "record", "name": "R", "fields": [{"name": "s", "type": "string"}]}"#;
    // Two exbibytes of text, and less than none.
    rejected(
        "a long text",
        &mut decoder(text),
        &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f],
        Reason::Truncated,
    );
    rejected("a negative length", &mut decoder(text), &[1], Reason::Malformed);
    rejected("size", &mut decoder(text), &vec![0; 600_000], Reason::Oversized);

    // An array of something without bytes, by reference: its count costs nothing to write.
    let nothing = r#"{"type": "record", "name": "R", "fields": [{"name": "e", "type": {"type": "record", "name": "E", "fields": []}},
        {"name": "x", "type": {"type": "array", "items": "E"}}, {"name": "y", "type": "int"}]}"#;
    let blocks = [0x80, 0x80, 0x20].repeat(170_000);
    rejected("items without bytes", &mut decoder(nothing), &blocks, Reason::Truncated);
    let array =
        r#"{"type": "record", "name": "R", "fields": [{"name": "x", "type": {"type": "array", "items": "long"}}]}"#;
    let many = [0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0];
    rejected("a count beyond the bytes", &mut decoder(array), &many, Reason::Truncated);
    let map = array.replace(r#""array", "items""#, r#""map", "values""#);
    rejected("a map's count beyond the bytes", &mut decoder(&map), &many, Reason::Truncated);
    let nested =
        r#"{"type": "record", "name": "R", "fields": [{"name": "x", "type": {"type": "array", "items": "R"}}]}"#;
    rejected("items within items", &mut decoder(nested), &[2; 500_000], Reason::TooDeep);

    // References that multiply: 2 to the 60th power of them.
    for inner in [r#"{"type": "record", "name": "A0", "fields": []}"#, r#"{"type": "array", "items": "int"}"#] {
        let mut fields = vec![format!(
            r#"{{"name": "f0", "type": {{"type": "record", "name": "B0", "fields": [{{"name": "z", "type": {inner}}}]}}}}"#
        )];
        for n in 1..60 {
            let below = n - 1;
            fields.push(format!(
                r#"{{"name": "f{n}", "type": {{"type": "record", "name": "B{n}", "fields": [{{"name": "a", "type": "B{below}"}},
                {{"name": "b", "type": "B{below}"}}]}}}}"#
            ));
        }
        let schema = format!(r#"{{"type": "record", "name": "R", "fields": [{}]}}"#, fields.join(","));
        assert!(refused(schema).contains("too large"));
    }
    let fields: Vec<String> = (0..1_025).map(|n| format!(r#"{{"name": "f{n}", "type": "int"}}"#)).collect();
    let wide = format!(r#"{{"type": "record", "name": "R", "fields": [{}]}}"#, fields.join(","));
    assert!(refused(wide.clone()).contains("more than 1024 fields"));
    let config = AvroDecoderConfig { max_fields: 2_000, ..AvroDecoderConfig::new(wide) };
    assert!(AvroDecoder::new(config).is_ok(), "the limit is a setting");
    assert!(refused(format!("\"{}\"", "x".repeat(1 << 20))).contains("too large"));
    let fixed: Vec<String> =
        (0..2).map(|n| format!(r#"{{"type": "fixed", "name": "F{n}", "size": {}}}"#, usize::MAX / 2 + 1)).collect();
    let skipped = format!(
        r#"{{"type": "record", "name": "R", "fields": [{{"name": "x", "type": {{"type": "array", "items":
        {{"type": "record", "name": "I", "fields": [{{"name": "a", "type": {}}}, {{"name": "b", "type": {}}}]}}}}}}]}}"#,
        fixed[0], fixed[1]
    );
    rejected("fixed bytes beyond all memory", &mut decoder(&skipped), &[2, 0, 0, 0], Reason::Truncated);
}

/// Not the one that the log begins by itself.
const LANE: Lane = Lane(7);

/// A message of many headers between two of few.
fn with_headers(n_headers: usize) -> RawBatch {
    let mut raw = RawBatch::default();
    for (seq, n) in [2, n_headers, 2].into_iter().enumerate() {
        let message = Message { payload: Some(b"1"), ..Message::default() };
        let position = Position { lane: LANE, seq: seq as u64 };
        raw.push(RawMessage { message, position, coordinate: Coordinate { partition: 0, offset: seq as i64 } });
        for at in 0..n {
            raw.push_header(&format!("h{at}"), Some(b"v"));
        }
    }
    raw
}

#[test]
fn inv_7_a_message_of_too_many_headers_is_dead_lettered_between_its_neighbours() {
    let (log, out, letters) = (MemoryLog::default(), MemorySink::new(), MemorySink::new());
    let lane = LaneInfo { lane: LANE, partition: "scripted-0".into() };
    log.script(Scripted::Event(SourceEvent::Assigned(vec![lane])));
    log.script(Scripted::Event(SourceEvent::Batch(with_headers(10))));
    let (source, sink, dead) = (log.clone(), out.clone(), letters.clone());
    let mut spec = PipelineSpec::new("hostile", move |_| {
        let routes = vec![Route::required("all", None, sink.clone())];
        let stages = TaskStages::new(Box::new(source.source(1)), Box::new(PassThrough), routes);
        Ok(TaskStages { dead_letter: Some(dead.clone()), ..stages })
    });
    spec.options = PipelineOptions { tolerance: Tolerance::All, max_headers: 9, ..PipelineOptions::default() };
    let handle = Pipeline::start(spec, Metrics::default()).unwrap();
    let late = Instant::now() + SOON;
    while handle.audit().delivered + handle.audit().dead_lettered < 3 {
        assert!(Instant::now() < late, "{}", handle.audit());
        std::thread::yield_now();
    }
    handle.stop();
    let audit = handle.wait().unwrap().audit;
    assert_eq!((audit.delivered, audit.dead_lettered), (2, 1), "{audit}");
    let letters = letters.stored();
    let value = |name| String::from_utf8_lossy(letters.headers().last(0, name).unwrap().value.unwrap()).into_owned();
    assert_eq!((value(header::STAGE), value(header::REASON)), ("source".into(), "oversized".into()));
    assert_eq!(value(header::MESSAGE), "10 headers, and the limit `max_headers` is 9");
    assert_eq!(letters.headers().n_of(0), 10 + 11, "with all that it came with");
}

#[test]
fn inv_6_small_messages_that_make_large_columns_stay_within_the_bound() {
    let (log, out) = (MemoryLog::default(), MemorySink::new());
    // One message of 500 fields makes 4,000 bytes of columns from every small one behind it.
    let fields: Vec<String> = (0..500).map(|at| format!("\"f{at}\":1")).collect();
    log.publish([format!("{{{}}}", fields.join(","))]);
    log.publish((0..20_000).map(|n| format!("{{\"f0\":{n}}}")));
    log.end();
    out.delay(Some(Duration::from_millis(1)));
    let (source, sink) = (log.clone(), out.clone());
    let mut spec = PipelineSpec::new("hostile", move |_| {
        let encoder = JsonEncoder::new(JsonEncoderConfig { columns: Some(vec!["f0".into()]), ..Default::default() });
        let routes = vec![Route::required("all", Some(Box::new(encoder)), sink.clone())];
        let decoder = JsonDecoder::new(JsonDecoderConfig::default())?;
        Ok(TaskStages::new(Box::new(source.source(100)), Box::new(decoder), routes))
    });
    const BOUND: usize = 4 << 20;
    spec.options = PipelineOptions { max_in_flight_bytes: BOUND, ..PipelineOptions::default() };
    let metrics = Metrics::default();
    let handle = Pipeline::start(spec, metrics.clone()).unwrap();
    let mut most = 0;
    while handle.audit().delivered < 20_001 {
        let text = metrics.text().unwrap();
        let line = text.lines().find(|line| line.starts_with("iotml_pipeline_in_flight_bytes{"));
        most = most.max(line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap() as usize));
    }
    handle.wait().unwrap();
    println!("at most {most} bytes in flight");
    // What is received last is taken whole.
    assert!((100_000..BOUND + 1_000_000).contains(&most), "{most}");
}
