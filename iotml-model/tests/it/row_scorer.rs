//! Rows from outside a pipeline score as rows inside one.

use iotml_core::ndarray::{Array2, array};
use iotml_model::feature::Missing;
use iotml_model::manifest::Scale;
use iotml_model::testing::{OnnxBuilder, scaled_copy};
use iotml_model::{Kind, Manifest, RowScorer, Rows, Wants};

use crate::setup::{assert_close, batch, engines, floats, open, score, scorer};

const ALL: Wants = Wants { errors: true, output: true };

fn pumps() -> iotml_model::manifest::ManifestBuilder {
    Manifest::builder(Kind::Reconstruction, "pumps")
        .feature("a", Some(Scale::Range { min: 0.0, max: 10.0 }))
        .feature("b", Some(Scale::Standard { mean: 1.0, std: 2.0 }))
        .fixed_threshold(0.2)
}

#[test]
fn rows_score_as_in_a_pipeline() {
    for engine in engines() {
        let (a, b) = ([1.0, 9.5, 3.0], [0.5, 2.0, -4.0]);
        let mut pipeline = scorer(&scaled_copy(2, 0.5), pumps(), engine, |_| ());
        let expected = score(&mut pipeline, batch(&[("a", &a), ("b", &b)]));
        let expected: Vec<f32> = floats(&expected, "score").into_iter().flatten().collect();

        let mut rows = RowScorer::new(open(&scaled_copy(2, 0.5), pumps(), engine), Missing::Reject).unwrap();
        let matrix = Array2::from_shape_fn((3, 2), |(row, at)| if at == 0 { a[row] } else { b[row] });
        let scored = rows.score(Rows::F32(matrix.view()), None, ALL).unwrap();
        assert_eq!(scored.scores(), expected);
        let anomalies: Vec<_> = (0..3).map(|row| scored.is_anomaly(row)).collect();
        assert_eq!(anomalies, expected.iter().map(|score| Some(*score >= 0.2)).collect::<Vec<_>>());
        let means: Vec<f32> = scored.errors().chunks(2).map(|errors| (errors[0] + errors[1]) / 2.0).collect();
        assert_close(&means, &expected, 1e-6);
        assert_eq!(scored.output().len(), 6);
    }
}

#[test]
fn a_second_one_scores_the_same_on_another_thread() {
    for engine in engines() {
        let first = RowScorer::new(open(&scaled_copy(2, 0.5), pumps(), engine), Missing::Reject).unwrap();
        let mut second = first.another().unwrap();
        drop(first);
        let work = move || {
            let rows = array![[1.0f64, 0.5], [9.5, 2.0]];
            second.score(Rows::F64(rows.view()), None, Wants::default()).unwrap().scores().to_vec()
        };
        let scores = std::thread::spawn(work).join().unwrap();
        assert_close(&scores, &[(0.64 + 0.0625) / 8.0, (0.81 + 0.25) / 8.0], 1e-6);
    }
}

#[test]
fn bad_rows_are_named_or_imputed() {
    for engine in engines() {
        let rows = array![[1.0f32, f32::NAN], [9.5, 2.0]];
        let mut strict = RowScorer::new(open(&scaled_copy(2, 0.5), pumps(), engine), Missing::Reject).unwrap();
        let scored = strict.score(Rows::F32(rows.view()), None, Wants::default()).unwrap();
        assert_eq!(scored.bad().len(), 1);
        assert_eq!((scored.bad()[0].row, scored.bad()[0].cause.to_string().contains("`b`")), (0, true));
        let mut kind = RowScorer::new(open(&scaled_copy(2, 0.5), pumps(), engine), Missing::Impute).unwrap();
        let scored = kind.score(Rows::F32(rows.view()), None, Wants::default()).unwrap();
        assert!(scored.bad().is_empty());
        assert_close(scored.scores(), &[0.64 / 8.0, (0.81 + 0.25) / 8.0], 1e-6);
    }
}

/// Predicts that the next row is the last one again.
fn persistence() -> OnnxBuilder {
    let axes = [None, Some(1), Some(1)];
    OnnxBuilder::new().input("x", &axes).output("y", &axes).node("Identity", &["x"], &["y"])
}

#[test]
fn next_event_needs_keys_and_forgets_when_told() {
    for engine in engines() {
        let manifest = Manifest::builder(Kind::NextEvent, "next").feature("x", None).fixed_threshold(5.0);
        let mut rows = RowScorer::new(open(&persistence(), manifest, engine), Missing::Reject).unwrap();
        let matrix = array![[1.0f32], [5.0], [2.0], [8.0]];
        let keyless = rows.score(Rows::F32(matrix.view()), None, ALL).unwrap();
        assert_eq!(keyless.bad().len(), 4);

        let keys: [&[u8]; 4] = [b"a", b"b", b"a", b"b"];
        for _ in 0..2 {
            let scored = rows.score(Rows::F32(matrix.view()), Some(&keys), ALL).unwrap();
            assert!(scored.scores()[..2].iter().all(|score| score.is_nan()));
            assert_eq!(scored.scores()[2..], [1.0, 9.0]);
            assert_eq!([1, 2, 3].map(|row| scored.is_anomaly(row)), [None, Some(false), Some(true)]);
            assert_eq!(scored.output()[2..], [1.0, 5.0]);
            rows.forget();
        }
    }
}
