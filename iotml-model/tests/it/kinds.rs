//! The four kinds of model, on every engine.

use iotml_core::arrow::array::{Array, AsArray};
use iotml_core::arrow::datatypes::Float32Type;
use iotml_core::score::Threshold;
use iotml_model::manifest::{ManifestBuilder, Scale};
use iotml_model::testing::{OnnxBuilder, scaled_copy};
use iotml_model::{Kind, Manifest};

use crate::setup::{batch, engines, floats, keyed_batch, score, scorer, texts, verdicts};

fn manifest(kind: Kind) -> ManifestBuilder {
    Manifest::builder(kind, "cars").version("7").feature("a", None).feature("b", None)
}

#[test]
fn reconstruction_appends_scores_and_names_the_model() {
    for engine in engines() {
        let manifest = manifest(Kind::Reconstruction).fixed_threshold(2.0);
        let mut scorer = scorer(&scaled_copy(2, 0.5), manifest, engine, |config| config.output = true);
        let output = score(&mut scorer, batch(&[("b", &[0.0, 4.0]), ("other", &[9.0, 9.0]), ("a", &[2.0, 2.0])]));
        // Half of each value is missing from the copy: ((2/2)^2 + (b/2)^2) / 2.
        assert_eq!(floats(&output, "score"), [Some(0.5), Some(2.5)]);
        assert_eq!(floats(&output, "threshold"), [Some(2.0), Some(2.0)]);
        assert_eq!(verdicts(&output), [Some(false), Some(true)]);
        assert_eq!(texts(&output, "model"), ["cars", "cars"]);
        assert_eq!(texts(&output, "model_version"), ["7", "7"]);
        assert_eq!(floats(&output, "other"), [Some(9.0), Some(9.0)]);
        let given = output.batch.column("output").unwrap().as_fixed_size_list().value(1);
        assert_eq!(given.as_primitive::<Float32Type>().values(), &[1.0, 2.0]);
        assert!(output.rejected.is_empty() && output.filtered.is_empty());
    }
}

#[test]
fn configured_threshold_and_prefix_win() {
    for engine in engines() {
        let manifest = manifest(Kind::Reconstruction).fixed_threshold(2.0);
        let mut scorer = scorer(&scaled_copy(2, 0.5), manifest, engine, |config| {
            config.threshold = Some(Threshold::fixed(0.5));
            config.prefix = "shadow_".into();
        });
        let columns: &[(&str, &[f32])] = &[("a", &[2.0]), ("b", &[0.0]), ("score", &[7.0])];
        let output = score(&mut scorer, batch(columns));
        assert_eq!(floats(&output, "shadow_threshold"), [Some(0.5)]);
        assert!(output.batch.column("shadow_anomaly").unwrap().as_boolean().value(0));
        assert_eq!(floats(&output, "score"), [Some(7.0)]);
    }
}

#[test]
fn score_kind_takes_the_models_number() {
    let sum = OnnxBuilder::new()
        .input("x", &[None, Some(2)])
        .output("y", &[None, Some(1)])
        .weights("ones", &[2, 1], &[1.0, 1.0])
        .node("MatMul", &["x", "ones"], &["y"]);
    for engine in engines() {
        let mut scorer = scorer(&sum, manifest(Kind::Score), engine, |_| {});
        let output = score(&mut scorer, batch(&[("a", &[1.0, 2.0, 3.0]), ("b", &[10.0, 20.0, 30.0])]));
        assert_eq!(floats(&output, "score"), [Some(11.0), Some(22.0), Some(33.0)]);
        assert_eq!(floats(&output, "threshold"), [None, None, None]);
        assert_eq!(verdicts(&output), [None, None, None]);
    }
}

#[test]
fn classifier_gives_the_positive_classs_probability_and_a_label() {
    let softmax = OnnxBuilder::new()
        .input("x", &[None, Some(2)])
        .output("p", &[None, Some(2)])
        .node("Softmax", &["x"], &["p"])
        .attribute("axis", 1);
    for engine in engines() {
        let manifest = manifest(Kind::Classifier).classes(["fine", "broken"], "broken").fixed_threshold(0.5);
        let mut scorer = scorer(&softmax, manifest, engine, |_| {});
        let output = score(&mut scorer, batch(&[("a", &[0.0, 5.0]), ("b", &[2.0, 0.0])]));
        let scores: Vec<f32> = floats(&output, "score").into_iter().map(Option::unwrap).collect();
        assert!((scores[0] - 0.880_797).abs() < 1e-5 && (scores[1] - 0.006_693).abs() < 1e-5, "{scores:?}");
        assert_eq!(texts(&output, "label"), ["broken", "fine"]);
        assert_eq!(verdicts(&output), [Some(true), Some(false)]);
    }
}

#[test]
fn next_event_scores_a_row_against_what_the_row_before_it_promised() {
    for engine in engines() {
        let mut scorer = scorer(&scaled_copy(2, 2.0), manifest(Kind::NextEvent).fixed_threshold(1.0), engine, |_| {});
        let keys = [Some("car1"), Some("car2"), Some("car1"), Some("car2")];
        let a: &[f32] = &[1.0, 10.0, 2.0, 10.0];
        let b: &[f32] = &[3.0, 0.0, 6.0, 0.0];
        let output = score(&mut scorer, keyed_batch(0, &keys, &[("a", a), ("b", b)]));
        // The model doubles: car1 did double, car2 stayed at 10 instead of reaching 20.
        assert_eq!(floats(&output, "score"), [None, None, Some(0.0), Some(50.0)]);
        assert_eq!(verdicts(&output), [None, None, Some(false), Some(true)]);
        let next = score(&mut scorer, keyed_batch(0, &[Some("car1")], &[("a", &[4.0]), ("b", &[10.0])]));
        assert_eq!(floats(&next, "score"), [Some(2.0)]);
    }
}

#[test]
fn next_event_windows_of_several_rows_predict_from_all_of_them() {
    // The prediction is the mean of the last two rows.
    let mean = OnnxBuilder::new()
        .input("x", &[None, Some(2), Some(2)])
        .output("y", &[None, Some(2)])
        .node("ReduceMean", &["x"], &["y"])
        .attribute("keepdims", 0)
        .axes(&[1]);
    for engine in engines() {
        let mut scorer = scorer(&mean, manifest(Kind::NextEvent), engine, |_| {});
        let keys = [Some("k"); 4];
        let a: &[f32] = &[0.0, 2.0, 1.0, 1.5];
        let output = score(&mut scorer, keyed_batch(0, &keys, &[("a", a), ("b", a)]));
        assert_eq!(floats(&output, "score"), [None, None, Some(0.0), Some(0.0)]);
    }
}

#[test]
fn n_rows_at_once_equal_n_times_one_row() {
    let layers = OnnxBuilder::new()
        .input("x", &[None, Some(2)])
        .output("y", &[None, Some(2)])
        .weights("w", &[2, 2], &[0.3, -0.7, 1.1, 0.2])
        .weights("c", &[2], &[0.1, -0.2])
        .node("MatMul", &["x", "w"], &["m"])
        .node("Add", &["m", "c"], &["s"])
        .node("Tanh", &["s"], &["y"]);
    let values: Vec<f32> = (0..300).map(|at| (at as f32 * 0.37).sin() * 3.0).collect();
    let others: Vec<f32> = (0..300).map(|at| (at as f32 * 0.11).cos() * 3.0).collect();
    let keys: Vec<_> = (0..300).map(|at| Some(["k0", "k1", "k2"][at % 3])).collect();
    for engine in engines() {
        for kind in [Kind::Reconstruction, Kind::NextEvent] {
            let scale = Some(Scale::Range { min: -3.0, max: 3.0 });
            let manifest = || Manifest::builder(kind, "m").feature("a", scale).feature("b", scale);
            let mut together = scorer(&layers, manifest(), engine, |_| {});
            let all = score(&mut together, keyed_batch(0, &keys, &[("a", &values), ("b", &others)]));
            let mut alone = scorer(&layers, manifest(), engine, |_| {});
            let single: Vec<_> = (0..300)
                .flat_map(|at| {
                    let columns: &[(&str, &[f32])] = &[("a", &values[at..=at]), ("b", &others[at..=at])];
                    floats(&score(&mut alone, keyed_batch(0, &keys[at..=at], columns)), "score")
                })
                .collect();
            for (all, single) in floats(&all, "score").into_iter().zip(single) {
                assert_eq!(all.is_some(), single.is_some());
                let (all, single) = (all.unwrap_or_default(), single.unwrap_or_default());
                assert!((all - single).abs() <= 1e-6 * all.abs().max(1.0), "{all} {single}");
            }
        }
    }
}

#[test]
fn batches_of_any_size_work_one_after_the_other() {
    for engine in engines() {
        let mut scorer = scorer(&scaled_copy(2, 0.0), manifest(Kind::Reconstruction), engine, |_| {});
        for n in [3, 0, 1_000, 1, 257, 3] {
            let a: Vec<f32> = (0..n).map(|at| at as f32).collect();
            let output = score(&mut scorer, batch(&[("a", &a), ("b", &a)]));
            let expected: Vec<_> = a.iter().map(|a| Some(a * a)).collect();
            assert_eq!(floats(&output, "score"), expected);
            assert_eq!(output.batch.column("model").unwrap().len(), n);
        }
    }
}
