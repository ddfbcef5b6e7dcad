//! Messages that the source itself cannot yield as rows, and batches of which nothing is left.

use std::sync::Arc;

use iotml_core::arrow::array::RecordBatch;
use iotml_core::batch::{Batch, RawBatch, Rejected, StageOutput};
use iotml_core::decode::{DecodeError, Decoder, PassThrough};
use iotml_core::error::{Cause, Reason};
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::{
    Audit, Pipeline, PipelineError, PipelineOptions, PipelineSpec, Route, Summary, TaskStages, Tolerance, header,
};
use iotml_core::preprocess::{Select, SelectConfig};
use iotml_core::score::{ThresholdScorer, ThresholdScorerConfig};
use iotml_core::testing::{MemoryLog, MemorySink};

const UNUSABLE: &[u8] = b"a message that is far too long";

/// Passes everything on, and fails if it is shown what can be no row.
struct Sheltered;

#[iotml_core::async_trait]
impl Decoder for Sheltered {
    async fn prepare(&mut self, raw: &Arc<RawBatch>) -> Result<(), DecodeError> {
        let is_shown = (0..raw.len()).any(|row| raw.messages().payload(row) == Some(UNUSABLE));
        if is_shown { Err(DecodeError::fatal("the decoder was shown a message that can be no row")) } else { Ok(()) }
    }

    fn decode(&mut self, raw: &Arc<RawBatch>) -> Result<StageOutput, DecodeError> {
        PassThrough.decode(raw)
    }
}

/// Ten messages, of which the third and the fourth can be no rows.
fn run(
    tolerance: Tolerance,
    letters: Option<&Arc<MemorySink>>,
) -> (Result<Summary, PipelineError>, MemoryLog, Arc<MemorySink>, Metrics) {
    let (log, sink, metrics) = (MemoryLog::default(), MemorySink::new(), Metrics::default());
    log.refuse(UNUSABLE, Cause::over_limit(30, 16).with("the limit stands in the configuration"));
    log.publish([b"0", b"1"]);
    log.publish([UNUSABLE, UNUSABLE]);
    log.publish([b"4", b"5", b"6", b"7", b"8", b"9"]);
    log.end();
    if let Some(letters) = letters {
        log.witness(letters);
    }
    let (source, out, letters) = (log.clone(), sink.clone(), letters.cloned());
    let mut spec = PipelineSpec::new("test", move |_| {
        let route = Route::required("all", None, out.clone());
        let mut stages = TaskStages::new(Box::new(source.source(6)), Box::new(Sheltered), vec![route]);
        stages.dead_letter = letters.clone().map(|letters| letters as _);
        Ok(stages)
    });
    spec.options = PipelineOptions { tolerance, ..PipelineOptions::default() };
    let ended = Pipeline::start(spec, metrics.clone()).unwrap().wait();
    (ended, log, sink, metrics)
}

#[test]
fn inv_1_4_7_they_become_dead_letters_of_the_source_and_are_acknowledged_behind_them() {
    let letters = MemorySink::new();
    let (ended, log, sink, metrics) = run(Tolerance::All, Some(&letters));
    let audit = ended.unwrap().audit;
    assert_eq!(audit, Audit { received: 10, delivered: 8, dead_lettered: 2, ..Audit::default() });
    assert_eq!(sink.texts(), ["0", "1", "4", "5", "6", "7", "8", "9"]);
    assert_eq!(log.acked(), 10);
    let stored = letters.stored();
    assert_eq!(stored.len(), 2);
    for row in 0..2 {
        assert_eq!(stored.payload(row), Some(UNUSABLE));
        let value =
            |name| String::from_utf8_lossy(stored.headers().last(row, name).unwrap().value.unwrap()).into_owned();
        assert_eq!((value(header::STAGE), value(header::REASON)), ("source".to_owned(), "oversized".to_owned()));
        assert_eq!(value(header::OFFSET), (row + 2).to_string());
        assert_eq!(value(header::EXCEPTION), "iotml.source.oversized");
        let trace = value(header::STACKTRACE);
        assert!(trace.ends_with("\ncaused by: the limit stands in the configuration"), "{trace}");
        assert!(trace.starts_with("oversized: 30 bytes are more"), "{trace}");
    }
    assert!(!log.witnessed().is_empty());
    for (n_stored, ack) in log.witnessed() {
        assert!(ack.through < 2 || n_stored == 2, "acknowledged {} with {n_stored} dead letters", ack.through);
    }
    let text = metrics.text().unwrap();
    let counted = r#"iotml_pipeline_rejected_rows_total{pipeline="test",task="0",stage="source",reason="oversized"} 2"#;
    assert!(text.contains(counted), "{text}");
}

#[test]
fn inv_4_without_a_sink_for_them_they_are_skipped_and_counted() {
    let (ended, log, sink, _) = run(Tolerance::All, None);
    assert_eq!(ended.unwrap().audit, Audit { received: 10, delivered: 8, skipped: 2, ..Audit::default() });
    assert_eq!((log.acked(), sink.texts().len()), (10, 8));
}

#[test]
fn inv_1_without_tolerance_the_task_fails_with_the_place_and_acknowledges_nothing_behind_it() {
    let (ended, log, ..) = run(Tolerance::None, None);
    let error = ended.unwrap_err();
    assert!(log.acked() <= 2, "{} are acknowledged", log.acked());
    let text = error.report();
    assert!(text.contains("source \"source\" rejected a row") && text.contains("offset 2"), "{text}");
    assert!(text.contains("max_message_bytes"), "{text}");
    let PipelineError::Rejected { cause, .. } = error else { panic!("{error:?}") };
    assert_eq!(cause.reason, Reason::Oversized);
}

/// Knows no schema of any message, and so no column.
struct Stranger;

impl Decoder for Stranger {
    fn decode(&mut self, raw: &Arc<RawBatch>) -> Result<StageOutput, DecodeError> {
        let cause = || Cause::new(Reason::UnknownSchemaId, "schema 77 is not known");
        let rejected = (0..raw.len() as u32).map(|row| Rejected { row, cause: cause() }).collect();
        let nothing = RecordBatch::new_empty(Arc::new(iotml_core::arrow::datatypes::Schema::empty()));
        Ok(StageOutput { batch: Batch::decoded(raw.clone(), Vec::new(), nothing), rejected, filtered: Vec::new() })
    }
}

#[test]
fn inv_7_a_batch_of_nothing_but_poison_stops_no_stage_that_asks_for_columns() {
    let (log, sink, letters) = (MemoryLog::default(), MemorySink::new(), MemorySink::new());
    log.publish((0..20).map(|n| n.to_string()));
    log.end();
    let (source, out, dead) = (log.clone(), sink.clone(), letters.clone());
    let mut spec = PipelineSpec::new("test", move |_| {
        let select: SelectConfig = serde_json::from_str(r#"{"columns": ["speed"]}"#).unwrap();
        let threshold: ThresholdScorerConfig =
            serde_json::from_str(r#"{"column": "speed", "threshold": {"value": 5.0}}"#).unwrap();
        let mut route = Route::required("fast", None, out.clone());
        route.when = Some("speed > 3".parse().unwrap());
        let mut stages = TaskStages::new(Box::new(source.source(7)), Box::new(Stranger), vec![route]);
        stages.preprocessors.push(("select".to_owned(), Box::new(Select::new(select).unwrap())));
        stages.scorer = Some(Box::new(ThresholdScorer::new(threshold).unwrap()));
        stages.dead_letter = Some(dead.clone());
        Ok(stages)
    });
    spec.options = PipelineOptions { tolerance: Tolerance::All, ..PipelineOptions::default() };
    let audit = Pipeline::start(spec, Metrics::default()).unwrap().wait().unwrap().audit;
    assert_eq!(audit, Audit { received: 20, dead_lettered: 20, ..Audit::default() });
    assert_eq!((log.acked(), letters.stored().len(), sink.stored().len()), (20, 20, 0));
}

/// Large rows, rows with too many headers, and small ones.
#[test]
fn inv_1_4_7_a_dead_letter_that_is_too_large_is_shortened_and_stops_nothing() {
    let (log, sink, letters) = (MemoryLog::default(), MemorySink::new(), MemorySink::new());
    letters.limit(10_000);
    let rows: Vec<Vec<u8>> = [20, 9_900, 10_001, 500_000, 30].map(|n: usize| vec![b'x'; n]).into();
    log.publish(&rows);
    log.end();
    log.witness(&letters);
    let (source, out, dead) = (log.clone(), sink.clone(), letters.clone());
    let mut spec = PipelineSpec::new("test", move |_| {
        let route = Route::required("all", None, out.clone());
        let mut stages = TaskStages::new(Box::new(source.source(2)), Box::new(Stranger), vec![route]);
        stages.dead_letter = Some(dead.clone());
        Ok(stages)
    });
    spec.options = PipelineOptions { tolerance: Tolerance::All, ..PipelineOptions::default() };
    let audit = Pipeline::start(spec, Metrics::default()).unwrap().wait().unwrap().audit;
    assert_eq!(audit, Audit { received: 5, dead_lettered: 5, ..Audit::default() });
    assert_eq!(log.acked(), 5);
    for (n_stored, ack) in log.witnessed() {
        assert!(n_stored as u64 > ack.through, "acknowledged {} with {n_stored} dead letters", ack.through);
    }
    let stored = letters.stored();
    let value = |row, name| {
        let header = stored.headers().last(row, name)?;
        Some(String::from_utf8_lossy(header.value?).into_owned())
    };
    for row in 0..5 {
        let offset: usize = value(row, header::OFFSET).unwrap().parse().unwrap();
        let (whole, kept) = (&rows[offset], stored.payload(row).unwrap());
        let is_cut = whole.len() > 9_000;
        assert_eq!(value(row, header::CUT), is_cut.then(|| whole.len().to_string()), "offset {offset}");
        assert!(whole.starts_with(kept) && if is_cut { kept.len() > 2_000 } else { kept == whole }, "{}", kept.len());
        assert_eq!(value(row, header::REASON).as_deref(), Some("unknown_schema_id"));
    }
}

#[test]
fn inv_7_a_dead_letter_that_is_refused_for_another_reason_or_however_short_stops_the_task() {
    for limit in [None, Some(10)] {
        let (log, letters) = (MemoryLog::default(), MemorySink::new());
        letters.refuse(UNUSABLE, Cause::new(Reason::Refused, "it is not wanted"));
        limit.iter().for_each(|limit| letters.limit(*limit));
        log.publish([if limit.is_some() { b"small" } else { UNUSABLE }]);
        let (source, dead) = (log.clone(), letters.clone());
        let mut spec = PipelineSpec::new("test", move |_| {
            let route = Route::required("all", None, MemorySink::new());
            let mut stages = TaskStages::new(Box::new(source.source(2)), Box::new(Stranger), vec![route]);
            stages.dead_letter = Some(dead.clone());
            Ok(stages)
        });
        spec.options = PipelineOptions { tolerance: Tolerance::All, ..PipelineOptions::default() };
        let error = Pipeline::start(spec, Metrics::default()).unwrap().wait().unwrap_err().report();
        let why = if limit.is_some() { "the sink takes 10 bytes" } else { "it is not wanted" };
        assert!(error.contains("dead_letter") && error.contains(why), "{error}");
        assert_eq!((log.acked(), letters.n_stored()), (0, 0));
    }
}
