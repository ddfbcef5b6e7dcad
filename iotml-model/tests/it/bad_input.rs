//! Rows and batches that cannot be scored.

use iotml_core::batch::StageOutput;
use iotml_core::error::{Class, Reason};
use iotml_core::score::Scorer;
use iotml_core::score::Threshold;
use iotml_model::feature::Missing;
use iotml_model::manifest::ManifestBuilder;
use iotml_model::testing::{OnnxBuilder, scaled_copy};
use iotml_model::{Kind, Manifest, OnnxScorer, OnnxScorerConfig};

use crate::setup::{batch, engines, floats, keyed_batch, score, scorer};

fn manifest(kind: Kind) -> ManifestBuilder {
    Manifest::builder(kind, "m").feature("a", None).feature("b", None)
}

fn rejected(output: &StageOutput) -> Vec<(u32, Reason)> {
    output.rejected.iter().map(|rejected| (rejected.row, rejected.cause.reason)).collect()
}

#[test]
fn inv_7_rows_without_numbers_are_rejected_and_their_neighbours_scored() {
    for engine in engines() {
        let mut scorer = scorer(&scaled_copy(2, 0.0), manifest(Kind::Reconstruction), engine, |config| {
            config.feature_errors = true;
        });
        let a: &[f32] = &[1.0, f32::NAN, 3.0, f32::INFINITY];
        let output = score(&mut scorer, batch(&[("a", a), ("b", &[1.0, 2.0, 3.0, 4.0])]));
        assert_eq!(rejected(&output), [(1, Reason::NonFinite), (3, Reason::NonFinite)]);
        assert_eq!(output.rejected[0].cause.detail, "feature `a` is NaN");
        assert_eq!(floats(&output, "score"), [Some(1.0), Some(9.0)]);
        assert_eq!((output.batch.origin(0), output.batch.origin(1)), (0, 2));
    }
}

#[test]
fn imputing_scores_them_all() {
    for engine in engines() {
        let mut scorer = scorer(&scaled_copy(2, 0.0), manifest(Kind::Reconstruction), engine, |config| {
            config.missing = Missing::Impute;
        });
        let output = score(&mut scorer, batch(&[("a", &[f32::NAN, 2.0]), ("b", &[2.0, 2.0])]));
        assert!(output.rejected.is_empty());
        assert_eq!(floats(&output, "score"), [Some(2.0), Some(4.0)]);
    }
}

#[test]
fn inv_7_a_row_whose_score_is_no_number_is_rejected() {
    let logarithm =
        OnnxBuilder::new().input("x", &[None, Some(2)]).output("y", &[None, Some(2)]).node("Log", &["x"], &["y"]);
    for engine in engines() {
        let mut scorer = scorer(&logarithm, manifest(Kind::Reconstruction), engine, |_| {});
        let output = score(&mut scorer, batch(&[("a", &[1.0, -1.0, 1.0]), ("b", &[1.0, 1.0, 1.0])]));
        assert_eq!(rejected(&output), [(1, Reason::NonFinite)]);
        assert_eq!(floats(&output, "score"), [Some(1.0), Some(1.0)]);
    }
}

#[test]
fn inv_7_next_event_rows_without_key_or_numbers_leave_no_trace() {
    for engine in engines() {
        let mut scorer = scorer(&scaled_copy(2, 1.0), manifest(Kind::NextEvent), engine, |_| {});
        let keys = [Some("k"), None, Some("k"), Some("k")];
        let a: &[f32] = &[1.0, 5.0, f32::NAN, 3.0];
        let output = score(&mut scorer, keyed_batch(0, &keys, &[("a", a), ("b", &[0.0; 4])]));
        assert_eq!(rejected(&output), [(1, Reason::Missing), (2, Reason::NonFinite)]);
        // The row before the last one that counts is the first.
        assert_eq!(floats(&output, "score"), [None, Some(2.0)]);
    }
}

#[test]
fn a_missing_column_ends_the_task_and_names_what_there_is() {
    for engine in engines() {
        let mut scorer = scorer(&scaled_copy(2, 1.0), manifest(Kind::Reconstruction), engine, |_| {});
        for n in [0usize, 2] {
            let error = scorer.score(batch(&[("a", &vec![0.0; n]), ("c", &vec![0.0; n])])).unwrap_err();
            assert_eq!(error.class(), Class::Fatal);
            assert_eq!(error.to_string(), r#"the model needs the column `b`, but the batch has only ["a", "c"]"#);
        }
    }
}

#[test]
fn columns_that_exist_are_not_overwritten() {
    for engine in engines() {
        let mut scorer = scorer(&scaled_copy(2, 1.0), manifest(Kind::Reconstruction), engine, |_| {});
        let error = scorer.score(batch(&[("a", &[0.0]), ("b", &[0.0]), ("score", &[0.0])])).unwrap_err();
        assert!(error.to_string().contains("already has a column `score`; set `prefix`"), "{error}");
    }
}

#[test]
fn configurations_that_cannot_be_right_are_named() {
    let refused = |change: fn(&mut OnnxScorerConfig)| {
        let mut config = OnnxScorerConfig::new("m.onnx");
        change(&mut config);
        OnnxScorer::new(config).err().unwrap().to_string()
    };
    assert!(refused(|config| config.threshold = Some(Threshold::fixed(f64::NAN))).contains("threshold"));
    assert!(refused(|config| config.max_keys = 0).contains("max_keys"));
}
