//! Preprocessors and the threshold scorer, as a configuration makes them.

use std::path::Path;
use std::sync::Arc;

use iotml_core::arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use iotml_core::arrow::datatypes::{DataType, TimestampMillisecondType};
use iotml_core::batch::StageOutput;
use iotml_core::error::{Class, Reason};
use iotml_core::plugin::config::Config;
use iotml_core::plugin::{BuildContext, Registry};
use iotml_core::preprocess::{Outcome, Preprocessor, batch_wise, row_wise};
use iotml_core::score::Scorer;
use iotml_core::testing::rows::{Row, batch_of, rows};
use iotml_core::testing::{MemoryLog, preprocess, score};
use serde_json::{Value, json};

/// Every type of column, with nulls, NaN and infinity.
fn cars() -> RecordBatch {
    let nan = f32::NAN;
    let at = |row: i64| (row != 3).then_some(1_700_000_000_000 + row * 1_000);
    let at = TimestampMillisecondArray::from_iter((0..6).map(at)).with_timezone("UTC");
    let columns: [(&str, ArrayRef); 8] = [
        ("speed", Arc::new(Float32Array::from(vec![Some(0.0), Some(25.0), None, Some(50.0), Some(nan), Some(61.5)]))),
        (
            "volt",
            Arc::new(Float64Array::from(vec![Some(230.0), Some(f64::INFINITY), None, Some(244.2), None, Some(1.0)])),
        ),
        ("gear", Arc::new(Int32Array::from(vec![Some(1), Some(2), None, Some(3), Some(-1), Some(6)]))),
        ("n", Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5, 6]))),
        ("car", Arc::new(StringArray::from(vec![Some("a"), Some("b"), Some("c"), None, Some("é"), Some("")]))),
        ("parked", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, None, Some(false), Some(true)]))),
        ("at", Arc::new(at)),
        ("gap", iotml_core::arrow::array::new_null_array(&DataType::Null, 6)),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn build(type_name: &str, config: Value) -> Result<Box<dyn Preprocessor>, String> {
    let context = BuildContext { pipeline: "test".into(), task: 0, n_tasks: 1 };
    let built = Registry::with_core().preprocessors[type_name].build(config, &context);
    built.map_err(|error| error.to_string())
}

fn apply(type_name: &str, config: Value) -> StageOutput {
    let mut stage = build(type_name, config).unwrap();
    stage.apply(batch_of(cars())).unwrap()
}

/// The values of one column that are not null.
fn values(output: &StageOutput, name: &str) -> Vec<String> {
    rows(&output.batch).into_iter().filter_map(|mut row: Row| row.remove(name)).collect()
}

fn fatal(type_name: &str, config: Value) -> String {
    let error = build(type_name, config).unwrap().apply(batch_of(cars())).unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    error.to_string()
}

/// One or more configurations of every registered preprocessor.
fn configurations() -> Vec<(&'static str, Value)> {
    vec![
        ("select", json!({"columns": ["car", "speed"]})),
        ("select", json!({"drop": ["gap", "n"]})),
        ("scale", json!({"columns": {"speed": {"min": 0, "max": 50}, "gear": {"min": 1, "max": 6}}})),
        ("scale", json!({"columns": {"volt": {"constant": 0.5}, "new": {"constant": 1}}, "range": [0, 1]})),
        ("standardise", json!({"columns": {"speed": {"mean": 25, "std": 5}, "n": {"mean": 3, "std": 2}}})),
        ("clamp", json!({"columns": {"speed": {"max": 50}, "volt": {"min": 200, "max": 240}, "gear": {"min": 0.5}}})),
        (
            "impute",
            json!({"columns": {"speed": 1.5, "gear": 0, "car": "none", "parked": false, "gap": 7}, "nan": true}),
        ),
        ("filter", json!({"column": "speed", "min": 0, "max": 50})),
        ("filter", json!({"column": "gear", "min": 2, "action": "reject", "keep_missing": true})),
        ("filter", json!({"column": "volt", "max": 240, "action": "reject"})),
        ("rename", json!({"columns": {"speed": "volt", "volt": "speed"}})),
        ("rekey", json!({"column": "car"})),
        ("rekey", json!({"template": "{car}-{gear}/{key}", "missing": "keep"})),
    ]
}

#[tokio::test]
async fn every_preprocessor_conforms() {
    let configurations = configurations();
    for name in Registry::with_core().preprocessors.keys() {
        assert!(configurations.iter().any(|(known, _)| known == name), "{name} is not in the suite");
    }
    for (name, config) in configurations {
        preprocess::conforms(|| build(name, config.clone()).unwrap(), &[cars(), cars().slice(2, 3)]).await;
    }
    let reckless = || {
        row_wise(|row| match row.f64("gear") {
            Some(gear) if gear < 0.0 => Outcome::Drop,
            Some(gear) => {
                row.set("gear", gear + 1.0);
                row.set("fast", row.f64("speed").map(|speed| speed > 30.0));
                Outcome::Keep
            }
            None => Outcome::reject("no_gear", "no gear"),
        })
        .adds("fast", DataType::Boolean)
    };
    preprocess::conforms(|| Box::new(reckless()), &[cars()]).await;
    let same = || batch_wise(|batch| Ok(StageOutput::all(batch)));
    preprocess::conforms(|| Box::new(same()), &[cars()]).await;
}

#[tokio::test]
#[should_panic(expected = "two parts and the whole")]
async fn the_suite_catches_a_stage_that_remembers() {
    let counting = || {
        let mut n = 0;
        row_wise(move |row| {
            n += 1;
            row.set("n", n);
            Outcome::Keep
        })
    };
    preprocess::conforms(|| Box::new(counting()), &[cars()]).await;
}

#[tokio::test]
#[should_panic(expected = "comes before input row")]
async fn inv_11_the_suite_catches_a_stage_that_reorders_a_key() {
    let reversed = || {
        batch_wise(|batch| {
            let rows: Vec<u32> = (0..batch.len() as u32).rev().collect();
            Ok(StageOutput::all(batch.take(&rows).unwrap()))
        })
    };
    preprocess::conforms(|| Box::new(reversed()), &[cars()]).await;
}

#[test]
fn select_keeps_columns_in_the_order_asked_for() {
    let names = |output: StageOutput| {
        let schema = output.batch.columns().schema();
        schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(apply("select", json!({"columns": ["car", "speed"]}))), ["car", "speed"]);
    assert_eq!(names(apply("select", json!({"drop": ["gap", "car", "n", "volt"]}))), ["speed", "gear", "parked", "at"]);
}

#[test]
fn scale_maps_the_range_and_leaves_nulls() {
    let config =
        json!({"columns": {"speed": {"min": 0, "max": 50}, "gear": {"min": 1, "max": 6}, "x": {"constant": 2}}});
    let output = apply("scale", config);
    assert_eq!(values(&output, "speed"), ["-1.0", "0.0", "1.0", "NaN", "1.46"]);
    assert_eq!(values(&output, "gear"), ["-1.0", "-0.6", "-0.19999999999999996", "-1.8", "1.0"]);
    assert_eq!(values(&output, "x"), ["2.0"; 6]);
    assert_eq!(output.batch.column("speed").unwrap().data_type(), &DataType::Float32);
    assert_eq!(output.batch.column("gear").unwrap().data_type(), &DataType::Float64);
    let to_hundred = apply("scale", json!({"columns": {"speed": {"min": 0, "max": 50}}, "range": [0, 100]}));
    assert_eq!(values(&to_hundred, "speed"), ["0.0", "50.0", "100.0", "NaN", "123.0"]);
}

#[test]
fn standardise_and_clamp_do_what_they_say() {
    let output = apply("standardise", json!({"columns": {"speed": {"mean": 25, "std": 5}}}));
    assert_eq!(values(&output, "speed"), ["-5.0", "0.0", "5.0", "NaN", "7.3"]);
    let config =
        json!({"columns": {"speed": {"min": 1, "max": 50}, "volt": {"max": 240}, "gear": {"min": 0.5, "max": 2.9}}});
    let output = apply("clamp", config);
    assert_eq!(values(&output, "speed"), ["1.0", "25.0", "50.0", "NaN", "50.0"]);
    assert_eq!(values(&output, "volt"), ["230.0", "240.0", "240.0", "1.0"]);
    assert_eq!(values(&output, "gear"), ["1", "2", "2", "1", "2"]);
    assert_eq!(output.batch.column("gear").unwrap().data_type(), &DataType::Int32);
    let error = fatal("clamp", json!({"columns": {"gear": {"min": 0.2, "max": 0.8}}}));
    assert_eq!(error, "column \"gear\": no Int32 lies between 0.2 and 0.8");
}

#[test]
fn impute_fills_nulls_and_nan_where_asked() {
    let columns =
        json!({"speed": 9, "gear": 4, "car": "none", "parked": true, "gap": "x", "at": "2023-11-14T22:13:23Z"});
    let output = apply("impute", json!({"columns": columns, "nan": true}));
    assert_eq!(values(&output, "speed"), ["0.0", "25.0", "9.0", "50.0", "9.0", "61.5"]);
    assert_eq!(values(&output, "gear"), ["1", "2", "4", "3", "-1", "6"]);
    assert_eq!(values(&output, "car"), ["a", "b", "c", "none", "é", ""]);
    assert_eq!(values(&output, "parked"), ["true", "false", "true", "true", "false", "true"]);
    assert_eq!(values(&output, "gap"), ["x"; 6]);
    let at = output.batch.column("at").unwrap();
    assert_eq!(at.as_primitive::<TimestampMillisecondType>().value(3), 1_700_000_003_000);
    assert_eq!(at.data_type(), cars().column_by_name("at").unwrap().data_type());
    let output = apply("impute", json!({"columns": {"speed": 9}}));
    assert_eq!(values(&output, "speed"), ["0.0", "25.0", "9.0", "50.0", "NaN", "61.5"]);
    for (column, value, what) in [
        ("gear", json!(1.5), "column \"gear\": it holds Int32, which cannot hold 1.5"),
        ("gear", json!("x"), "column \"gear\": it holds Int32, which cannot hold \"x\""),
        ("n", json!(true), "column \"n\": it holds Int64, which cannot hold true"),
        ("car", json!(3), "column \"car\": it holds Utf8, which cannot hold 3"),
    ] {
        assert_eq!(fatal("impute", json!({"columns": {column: value}})), what);
    }
}

#[test]
fn filter_leaves_out_or_rejects_with_value_and_bounds() {
    let output = apply("filter", json!({"column": "speed", "min": 0, "max": 50}));
    assert_eq!(values(&output, "n"), ["1", "2", "4"]);
    assert_eq!((output.filtered, output.rejected.len()), (vec![2, 4, 5], 0));
    let output = apply("filter", json!({"column": "speed", "min": 0, "max": 50, "action": "reject"}));
    let causes: Vec<_> = output.rejected.iter().map(|rejected| (rejected.row, rejected.cause.clone())).collect();
    let want = [
        (2, Reason::Missing, "column \"speed\" has no value"),
        (4, Reason::NonFinite, "column \"speed\" is NaN"),
        (5, Reason::OutOfRange, "column \"speed\" is 61.5, outside [0, 50]"),
    ];
    let want = want.map(|(row, reason, detail)| (row, iotml_core::error::Cause::new(reason, detail)));
    assert_eq!(causes, want);
    let output = apply("filter", json!({"column": "speed", "max": 50, "keep_missing": true}));
    assert_eq!(output.filtered, [5]);
}

#[test]
fn a_limit_includes_its_single_precision_neighbour() {
    let column: ArrayRef = Arc::new(Float32Array::from(vec![0.1, 0.2]));
    let batch = batch_of(RecordBatch::try_from_iter([("x", column)]).unwrap());
    let mut filter = build("filter", json!({"column": "x", "min": 0.1, "max": 0.1})).unwrap();
    assert_eq!(filter.apply(batch).unwrap().filtered, [1]);
}

#[test]
fn rename_swaps_and_refuses_a_name_that_is_taken() {
    let output = apply("rename", json!({"columns": {"speed": "n", "n": "speed"}}));
    assert_eq!(values(&output, "speed"), ["1", "2", "3", "4", "5", "6"]);
    let error = fatal("rename", json!({"columns": {"speed": "volt"}}));
    assert!(error.starts_with("there is a column \"volt\" already"), "{error}");
}

#[test]
fn rekey_builds_keys_and_rejects_what_lacks_a_part() {
    let output = apply("rekey", json!({"template": "{{{car}}}-{gear}-{parked}/{key}"}));
    assert_eq!(
        values(&output, "@key"),
        ["{a}-1-true/key-0", "{b}-2-false/key-1", "{é}--1-false/key-4", "{}-6-true/key-5"]
    );
    let rejected: Vec<_> = output.rejected.iter().map(|row| (row.row, row.cause.to_string())).collect();
    let no_value = |name| format!("missing: column {name:?}, part of the key, has no value");
    assert_eq!(rejected, [(2, no_value("gear")), (3, no_value("car"))]);
    let output = apply("rekey", json!({"column": "car", "missing": "keep"}));
    assert_eq!(values(&output, "@key"), ["a", "b", "c", "key-3", "é", ""]);

    let output = apply("rekey", json!({"template": "{at}/{n}"}));
    assert_eq!(values(&output, "@key")[..2], ["2023-11-14T22:13:20/1", "2023-11-14T22:13:21/2"]);
    assert_eq!(apply("rekey", json!({"column": "gap"})).rejected.len(), 6);

    let long: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(70_000), "y".to_owned()]));
    let batch = batch_of(RecordBatch::try_from_iter([("car", long)]).unwrap());
    let output = build("rekey", json!({"column": "car"})).unwrap().apply(batch).unwrap();
    assert_eq!((output.rejected[0].cause.reason, output.batch.key(0)), (Reason::Oversized, Some(&b"y"[..])));
}

#[test]
fn an_unknown_column_names_those_there_are() {
    for (name, config) in [
        ("select", json!({"columns": ["sped"]})),
        ("select", json!({"drop": ["sped"]})),
        ("scale", json!({"columns": {"sped": {"min": 0, "max": 1}}})),
        ("standardise", json!({"columns": {"sped": {"mean": 0, "std": 1}}})),
        ("clamp", json!({"columns": {"sped": {"min": 0}}})),
        ("impute", json!({"columns": {"sped": 0}})),
        ("filter", json!({"column": "sped", "min": 0})),
        ("rename", json!({"columns": {"sped": "velocity"}})),
        ("rekey", json!({"template": "{sped}"})),
    ] {
        let error = fatal(name, config);
        let want = "there is no column \"sped\", did you mean \"speed\"? there are \"speed\", \"volt\", \"gear\"";
        assert!(error.starts_with(want), "{name}: {error}");
    }
    for (name, config) in [
        ("scale", json!({"columns": {"car": {"min": 0, "max": 1}}})),
        ("standardise", json!({"columns": {"car": {"mean": 0, "std": 1}}})),
        ("filter", json!({"column": "car", "min": 0})),
    ] {
        assert_eq!(fatal(name, config), "column \"car\" holds Utf8, not numbers", "{name}");
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused_before_the_start() {
    for (name, config, what) in [
        ("select", json!({}), "give either `columns` (to keep) or `drop` (to leave out)"),
        ("select", json!({"columns": ["a", "a"]}), "column \"a\" is named twice"),
        ("select", json!({"columns": ["a"], "dropp": ["b"]}), "unknown field `dropp`"),
        ("scale", json!({"columns": {"a": {"min": 1, "max": 1}}}), "`columns.a`: `min` 1 must be below `max` 1"),
        ("scale", json!({"columns": {"a": {"min": 1}}}), "`columns.a`: give either `min` and `max`, or `constant`"),
        ("scale", json!({"columns": {"a": {"min": 0, "max": 1}}, "range": [1, 0]}), "`range` [1, 0] must rise"),
        ("standardise", json!({"columns": {"a": {"mean": 0, "std": 0}}}), "`columns.a`: `std` is 0"),
        ("clamp", json!({"columns": {"a": {"min": 2, "max": 1}}}), "`columns.a`: `min` 2 is above `max` 1"),
        ("clamp", json!({"columns": {"a": {}}}), "`columns.a`: give `min`, `max` or both"),
        ("impute", json!({"columns": {}}), "`columns` names no column"),
        ("filter", json!({"column": "a"}), "give `min`, `max` or both"),
        ("filter", json!({"column": "a", "min": 1, "action": "drop"}), "unknown variant `drop`"),
        ("rename", json!({"columns": {"a": "c", "b": "c"}}), "columns \"a\" and \"b\" would both be called \"c\""),
        ("rekey", json!({"template": "{car"}), "`template` \"{car\": a `{` is not closed"),
        ("rekey", json!({"template": "car"}), "every row would get the same key"),
        ("rekey", json!({}), "give either `column` or `template`"),
    ] {
        let error = build(name, config).err().unwrap_or_else(|| panic!("{name} takes what lacks: {what}"));
        assert!(error.contains(what), "{name}: {error}");
    }
}

#[test]
fn a_document_configures_every_one_of_them() {
    let mut registry = Registry::with_core();
    registry.source("memory", "From memory.", |_: NoOptions, _| Ok(Box::new(MemoryLog::default().source(1))));
    let registry = Arc::new(registry);
    let parse = |text: &str| Config::parse(text, Path::new("cars.toml"), &registry);
    parse(DOCUMENT).unwrap_or_else(|mistakes| panic!("{mistakes}"));

    let wrong = DOCUMENT.replace("std = 5", "sdt = 5").replace("keep_missing", "keep_mising");
    let wrong = wrong.replace("value = 40", "valu = 40").replace("min = 0, max = 50", "min = 50, max = 0");
    let mistakes = parse(&wrong).expect_err("four mistakes").to_string();
    for what in ["`std`", "`keep_missing`", "`value`", "`min` 50 must be below `max` 0"] {
        assert!(mistakes.contains(what), "{what} is not in: {mistakes}");
    }
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct NoOptions {}

const DOCUMENT: &str = r#"
    pipeline = { name = "cars" }
    source = { type = "memory" }
    decode = { type = "json" }
    score = { type = "threshold", column = "speed", threshold = { value = 40 } }

    [[preprocess]]
    type = "select"
    drop = ["comment"]
    [[preprocess]]
    type = "rename"
    columns = { v = "speed" }
    [[preprocess]]
    type = "impute"
    columns = { speed = 1, rpm = 0.5, region = "none", parked = false }
    nan = true
    [[preprocess]]
    type = "clamp"
    columns.rpm = { min = 0 }
    [[preprocess]]
    type = "scale"
    range = [0, 1]
    columns.speed = { min = 0, max = 50 }
    columns.coolant = { constant = 0 }
    [[preprocess]]
    type = "standardise"
    columns.rpm = { mean = 25.5, std = 5 }
    [[preprocess]]
    type = "filter"
    column = "rpm"
    max = 9000
    action = "reject"
    keep_missing = true
    [[preprocess]]
    type = "rekey"
    template = "{car}-{region}"
    missing = "keep"

    [[route]]
    name = "show"
    encode = { type = "json" }
    sink = { type = "stdout" }
"#;

#[test]
fn a_row_wise_function_reads_what_it_set_and_keeps_the_columns_type() {
    let mut stage = row_wise(|row| {
        row.set("gear", 7.0);
        row.set("note", row.f64("gear").map(|gear| format!("{}-{gear}", row.str("car").unwrap_or("?"))));
        row.set("parked", None::<bool>);
        if row.str("note") == Some("b-7") { Outcome::Drop } else { Outcome::Keep }
    });
    let output = stage.apply(batch_of(cars())).unwrap();
    assert_eq!(output.filtered, [1]);
    assert_eq!(values(&output, "note"), ["a-7", "c-7", "?-7", "é-7", "-7"]);
    assert_eq!(values(&output, "gear"), ["7"; 5]);
    assert_eq!(values(&output, "parked").len(), 0);
    assert_eq!(output.batch.column("gear").unwrap().data_type(), &DataType::Int32);
}

#[test]
fn a_mistake_in_a_row_wise_function_is_fatal_and_named() {
    fn mistake(function: impl FnMut(&mut iotml_core::preprocess::Row<'_>) + Send) -> String {
        let mut function = function;
        let mut stage = row_wise(move |row| {
            function(row);
            Outcome::Keep
        });
        let error = stage.apply(batch_of(cars())).unwrap_err();
        assert_eq!(error.class(), Class::Fatal);
        error.to_string()
    }
    assert!(mistake(|row| assert_eq!(row.f64("sped"), None)).contains("did you mean \"speed\""));
    assert_eq!(mistake(|row| assert_eq!(row.f64("car"), None)), "column \"car\" holds Utf8, not numbers");
    assert_eq!(mistake(|row| assert_eq!(row.bool("n"), None)), "column \"n\" holds Int64, not booleans");
    assert_eq!(mistake(|row| row.set("gear", 0.5)), "column \"gear\": it holds Int32, which cannot hold 0.5");
    assert_eq!(mistake(|row| row.set("car", 1.0)), "column \"car\": it holds Utf8, which cannot hold 1");
    let mixed = mistake(|row| match row.f64("n") {
        Some(1.0) => row.set("new", 1.0),
        _ => row.set("new", "text"),
    });
    assert_eq!(mixed, "column \"new\": it holds Float64, which cannot hold \"text\"");
}

fn scorer(config: Value) -> Result<Box<dyn Scorer>, String> {
    let context = BuildContext { pipeline: "test".into(), task: 0, n_tasks: 1 };
    let built = Registry::with_core().scorers["threshold"].build(config, &context);
    built.map_err(|error| error.to_string())
}

fn readings(speed: Vec<Option<f64>>, rpm: Vec<Option<f32>>) -> RecordBatch {
    let columns: [(&str, ArrayRef); 2] =
        [("speed", Arc::new(Float64Array::from(speed))), ("rpm", Arc::new(Float32Array::from(rpm)))];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

#[tokio::test]
async fn inv_7_inv_8_the_threshold_scorer_conforms() {
    let threshold = json!({"method": "per_feature", "value": 40.0, "per_feature": {"rpm": 6000.0}});
    let config = json!({"column": "speed", "threshold": threshold, "version": "2"});
    let one = |speed, rpm| readings(vec![speed], vec![rpm]);
    let samples = score::Samples {
        good: readings(
            vec![Some(1.0), Some(40.0), Some(3.0), Some(0.0)],
            vec![Some(1.0), Some(2.0), Some(6e3), Some(0.0)],
        ),
        bad: vec![
            (one(None, Some(1.0)), Reason::Missing),
            (one(Some(1.0), None), Reason::Missing),
            (one(Some(f64::NAN), Some(1.0)), Reason::NonFinite),
            (one(Some(1.0), Some(f32::INFINITY)), Reason::NonFinite),
            (one(Some(1e300), Some(1.0)), Reason::OutOfRange),
        ],
        prefix: String::new(),
        tolerance: 0.0,
    };
    score::conforms(|| scorer(config.clone()).unwrap(), &samples).await;

    let output = scorer(config).unwrap().score(batch_of(samples.good)).unwrap();
    assert_eq!(values(&output, "anomaly"), ["false", "true", "true", "false"]);
    assert_eq!(values(&output, "score"), ["1.0", "40.0", "3.0", "0.0"]);
    assert_eq!(values(&output, "threshold"), ["40.0"; 4]);
    assert_eq!(
        (values(&output, "model"), values(&output, "model_version")),
        (vec!["threshold".to_owned(); 4], vec!["2".to_owned(); 4])
    );
}

#[test]
fn a_threshold_that_cannot_judge_is_refused() {
    let build = |threshold: Value| scorer(json!({"column": "speed", "threshold": threshold})).err().unwrap();
    assert_eq!(build(json!({})), "`threshold`: the threshold has no `value`");
    assert_eq!(build(json!({"method": "per_feature"})), "`threshold`: `per_feature` names no feature");
    assert!(build(json!({"value": 1, "quantile": 99})).contains("`quantile` is 99; it must be between 0 and 1"));

    let mut stage = scorer(json!({"column": "sped", "threshold": {"value": 1}})).unwrap();
    let error = stage.score(batch_of(cars())).unwrap_err().to_string();
    assert!(error.contains("did you mean \"speed\""), "{error}");
    let taken: ArrayRef = Arc::new(Float32Array::from(vec![1.0]));
    let batch = || batch_of(RecordBatch::try_from_iter([("model", taken.clone())]).unwrap());
    let config = |prefix: &str| json!({"column": "model", "threshold": {"value": 1}, "prefix": prefix});
    let error = scorer(config("")).unwrap().score(batch()).unwrap_err().to_string();
    assert_eq!(error, "the batch already has a column \"model\"; set `prefix`, or rename it before");
    let output = scorer(config("speed_")).unwrap().score(batch()).unwrap();
    assert_eq!(values(&output, "speed_anomaly"), ["true"]);
}
