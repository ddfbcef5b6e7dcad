use std::sync::Arc;

use iotml_core::arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, NullArray, StringArray,
};
use proptest::prelude::*;

use super::*;

fn feature(name: &str, scale: Option<Scale>) -> Feature {
    Feature { name: name.into(), scale, constant: None, impute: None }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

fn fill(spec: &mut FeatureSpec, batch: &RecordBatch) -> (Array2<f32>, Vec<BadRow>) {
    let mut matrix = Array2::zeros((0, 0));
    let bad = spec.fill(batch, &mut matrix).unwrap();
    (matrix, bad)
}

#[test]
fn order_scaling_and_constants_are_the_manifests() {
    let features = [
        feature("b", Some(Scale::Range { min: 0.0, max: 50.0 })),
        Feature { constant: Some(0.25), ..feature("gone", None) },
        feature("a", Some(Scale::Standard { mean: 10.0, std: 2.0 })),
        feature("flag", None),
    ];
    let mut spec = FeatureSpec::new(&features, Missing::Reject);
    let columns = batch(vec![
        ("a", Arc::new(Int32Array::from(vec![10, 14])) as ArrayRef),
        ("b", Arc::new(Float32Array::from(vec![25.0, 50.0]))),
        ("flag", Arc::new(BooleanArray::from(vec![true, false]))),
    ]);
    let (matrix, bad) = fill(&mut spec, &columns);
    assert_eq!(matrix.as_slice().unwrap(), [0.0, 0.25, 0.0, 1.0, 1.0, 0.25, 2.0, 0.0]);
    assert!(bad.is_empty());
}

#[test]
fn an_unscaled_feature_keeps_every_bit() {
    let raw = vec![-0.0f32, 0.0, f32::MIN_POSITIVE / 2.0, f32::MAX, -1.5];
    let (matrix, _) = fill(
        &mut FeatureSpec::new(&[feature("a", None)], Missing::Reject),
        &batch(vec![("a", Arc::new(Float32Array::from(raw.clone())) as ArrayRef)]),
    );
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(matrix.as_slice().unwrap()), bits(&raw));
}

#[test]
fn columns_may_move_between_batches() {
    let mut spec = FeatureSpec::new(&[feature("a", None), feature("b", None)], Missing::Reject);
    let one = Arc::new(Float32Array::from(vec![1.0])) as ArrayRef;
    let two = Arc::new(Float64Array::from(vec![2.0])) as ArrayRef;
    let (matrix, _) = fill(&mut spec, &batch(vec![("a", one.clone()), ("b", two.clone())]));
    assert_eq!(matrix.as_slice().unwrap(), [1.0, 2.0]);
    let (matrix, _) = fill(&mut spec, &batch(vec![("b", two), ("x", one.clone()), ("a", one)]));
    assert_eq!(matrix.as_slice().unwrap(), [1.0, 2.0]);
}

#[test]
fn a_missing_column_is_named_with_those_that_exist() {
    let mut spec = FeatureSpec::new(&[feature("speed", None)], Missing::Reject);
    let columns = batch(vec![("sped", Arc::new(Float32Array::from(vec![1.0])) as ArrayRef)]);
    let error = spec.fill(&columns, &mut Array2::zeros((0, 0))).unwrap_err();
    assert_eq!(error.to_string(), r#"the model needs the column `speed`, but the batch has only ["sped"]"#);
    let columns = batch(vec![("speed", Arc::new(StringArray::from(vec!["1"])) as ArrayRef)]);
    let error = spec.fill(&columns, &mut Array2::zeros((0, 0))).unwrap_err();
    assert!(matches!(error, FeatureError::NotANumber { .. }), "{error}");
}

#[test]
fn inv_7_bad_rows_have_causes_and_neighbours_are_whole() {
    let mut spec = FeatureSpec::new(&[feature("a", None), feature("b", None)], Missing::Reject);
    let columns = batch(vec![
        ("a", Arc::new(Float32Array::from(vec![1.0, f32::NAN, 3.0, f32::INFINITY, 5.0])) as ArrayRef),
        ("b", Arc::new(Float64Array::from(vec![Some(1.0), Some(2.0), None, Some(4.0), Some(1e300)]))),
    ]);
    let (matrix, bad) = fill(&mut spec, &columns);
    assert_eq!(matrix.row(0).as_slice().unwrap(), [1.0, 1.0]);
    assert!(matrix.iter().all(|value| value.is_finite()));
    let causes: Vec<_> = bad.iter().map(|bad| (bad.row, bad.cause.to_string())).collect();
    let expected = [
        (1, "non_finite: feature `a` is NaN"),
        (2, "missing: feature `b` is null"),
        (3, "non_finite: feature `a` is inf"),
        (4, "out_of_range: feature `b` is 1"),
    ];
    assert_eq!(causes.len(), expected.len());
    for ((row, cause), (expected_row, start)) in causes.iter().zip(expected) {
        assert_eq!(*row, expected_row);
        assert!(cause.starts_with(start), "{cause}");
    }
}

#[test]
fn imputing_puts_the_manifests_value_or_the_centre() {
    let range = Some(Scale::Range { min: 0.0, max: 10.0 });
    let features = [Feature { impute: Some(10.0), ..feature("a", range) }, feature("b", range)];
    let mut spec = FeatureSpec::new(&features, Missing::Impute);
    let columns = batch(vec![
        ("a", Arc::new(Float32Array::from(vec![None, Some(0.0)])) as ArrayRef),
        ("b", Arc::new(NullArray::new(2))),
    ]);
    let (matrix, bad) = fill(&mut spec, &columns);
    assert_eq!(matrix.as_slice().unwrap(), [1.0, 0.0, -1.0, 0.0]);
    assert!(bad.is_empty());
}

/// The same, one value at a time in double precision.
fn oracle(columns: &[Vec<Option<f64>>], scales: &[Option<Scale>], n_rows: usize) -> Vec<Option<Vec<f64>>> {
    let value = |row: usize, at: usize| {
        let raw = columns[at][row].filter(|raw| raw.is_finite())?;
        Some(match scales[at] {
            None => raw,
            Some(Scale::Range { min, max }) => (raw - min) / (max - min) * 2.0 - 1.0,
            Some(Scale::Standard { mean, std }) => (raw - mean) / std,
        })
    };
    (0..n_rows).map(|row| (0..columns.len()).map(|at| value(row, at)).collect()).collect()
}

fn scales() -> impl Strategy<Value = Option<Scale>> {
    prop_oneof![
        Just(None),
        (-100.0..100.0f64, 0.5..200.0f64).prop_map(|(min, width)| Some(Scale::Range { min, max: min + width })),
        (-100.0..100.0f64, 0.5..50.0f64).prop_map(|(mean, std)| Some(Scale::Standard { mean, std })),
    ]
}

fn values(n_rows: usize) -> impl Strategy<Value = Vec<Option<f64>>> {
    let value = prop_oneof![
        50 => (-1000.0..1000.0f64).prop_map(Some),
        1 => Just(None),
        1 => Just(Some(f64::NAN)),
        1 => Just(Some(f64::NEG_INFINITY)),
    ];
    prop::collection::vec(value, n_rows)
}

fn array(kind: usize, values: &mut [Option<f64>]) -> ArrayRef {
    let integer = |value: &mut Option<f64>| {
        *value = value.filter(|value| value.is_finite()).map(f64::trunc);
        *value
    };
    match kind {
        0 => {
            values.iter_mut().for_each(|value| *value = value.map(|value| f64::from(value as f32)));
            Arc::new(values.iter().map(|value| value.map(|value| value as f32)).collect::<Float32Array>())
        }
        1 => Arc::new(values.iter().copied().collect::<Float64Array>()),
        2 => Arc::new(values.iter_mut().map(|value| integer(value).map(|v| v as i32)).collect::<Int32Array>()),
        _ => Arc::new(values.iter_mut().map(|value| integer(value).map(|v| v as i64)).collect::<Int64Array>()),
    }
}

/// A batch before it is one, and the row from which on it is sliced.
#[derive(Debug, Clone)]
struct Case {
    columns: Vec<Vec<Option<f64>>>,
    scales: Vec<Option<Scale>>,
    kinds: Vec<usize>,
    offset: usize,
}

fn cases() -> impl Strategy<Value = Case> {
    (1usize..6, 0usize..200).prop_flat_map(|(n_features, n_rows)| {
        let columns = prop::collection::vec(values(n_rows), n_features);
        let scales = prop::collection::vec(scales(), n_features);
        let kinds = prop::collection::vec(0usize..4, n_features);
        (columns, scales, kinds, 0..=n_rows).prop_map(|(columns, scales, kinds, offset)| Case {
            columns,
            scales,
            kinds,
            offset,
        })
    })
}

proptest! {
    #[test]
    fn matrix_equals_the_oracle(case in cases()) {
        let Case { mut columns, scales, kinds, offset } = case;
        let n_rows = columns[0].len();
        let names: Vec<_> = (0..columns.len()).map(|at| format!("f{at}")).collect();
        let arrays: Vec<ArrayRef> = columns.iter_mut().zip(&kinds).map(|(column, kind)| array(*kind, column)).collect();
        // A sliced batch has arrays whose values do not start at the buffer's start.
        let whole = RecordBatch::try_from_iter(names.iter().cloned().zip(arrays)).unwrap();
        let batch = whole.slice(offset, n_rows - offset);
        let features: Vec<_> = names.iter().zip(&scales).map(|(name, scale)| feature(name, *scale)).collect();
        let mut spec = FeatureSpec::new(&features, Missing::Reject);
        let (matrix, bad) = fill(&mut spec, &batch);
        let expected = &oracle(&columns, &scales, n_rows)[offset..];
        let bad_rows: Vec<_> = bad.iter().map(|bad| bad.row).collect();
        let expected_bad: Vec<_> = (0..expected.len()).filter(|row| expected[*row].is_none()).collect();
        prop_assert_eq!(bad_rows, expected_bad);
        for (row, expected) in expected.iter().enumerate() {
            for (found, expected) in matrix.row(row).iter().zip(expected.iter().flatten()) {
                let tolerance = 1e-4 * expected.abs().max(1.0);
                prop_assert!((f64::from(*found) - expected).abs() <= tolerance, "{found} for {expected}");
            }
        }
    }
}

fn mixed_features() -> Vec<Feature> {
    vec![
        feature("a", Some(Scale::Range { min: -1.0, max: 7.0 })),
        Feature { constant: Some(0.5), ..feature("gone", None) },
        Feature { impute: Some(3.0), ..feature("b", Some(Scale::Standard { mean: 2.0, std: 0.7 })) },
        feature("c", None),
    ]
}

#[test]
fn a_matrix_of_another_width_is_refused_with_the_names() {
    let mut spec = FeatureSpec::new(&mixed_features(), Missing::Reject);
    let error = spec.fill_matrix(Array2::<f32>::zeros((2, 3)).view(), &mut [0.0; 8]).unwrap_err().to_string();
    assert_eq!(error, r#"the model needs 4 columns, ["a", "gone", "b", "c"], but the rows have 3"#);
}

proptest! {
    /// Rows of a matrix become what the same numbers become in columns, bit by bit, however the matrix lies in memory.
    #[test]
    fn a_matrix_is_scaled_as_its_columns_are(
        rows in prop::collection::vec(prop::array::uniform4(prop_oneof![
            20 => -1e3f64..1e3, 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => Just(1e300)
        ]), 0..200),
        impute: bool,
        single: bool,
        layout in 0..3,
    ) {
        let missing = if impute { Missing::Impute } else { Missing::Reject };
        let mut spec = FeatureSpec::new(&mixed_features(), missing);
        let column = |at: usize| -> ArrayRef {
            let values = rows.iter().map(|row| row[at]);
            match single {
                true => Arc::new(values.map(|value| value as f32).collect::<Float32Array>()),
                false => Arc::new(values.collect::<Float64Array>()),
            }
        };
        let names = ["a", "unused", "b", "c"];
        let columns = batch(names.iter().enumerate().map(|(at, name)| (*name, column(at))).collect());
        let (expected, expected_bad) = fill(&mut spec, &columns);

        let shape = (rows.len(), 4);
        let wide = Array2::from_shape_fn((rows.len() * 2, 4), |(row, at)| rows[row / 2][at]);
        let fortran = Array2::from_shape_fn((4, rows.len()), |(at, row)| rows[row][at]);
        let flat = Array2::from_shape_fn(shape, |(row, at)| rows[row][at]);
        let matrix = match layout {
            0 => flat.view(),
            1 => fortran.t(),
            _ => wide.slice_axis(iotml_core::ndarray::Axis(0), iotml_core::ndarray::Slice::new(0, None, 2)),
        };
        let mut found = vec![f32::NAN; rows.len() * 4];
        let bad = match single {
            true => spec.fill_matrix(matrix.mapv(|value| value as f32).view(), &mut found).unwrap(),
            false => spec.fill_matrix(matrix, &mut found).unwrap(),
        };
        prop_assert_eq!(expected.as_slice().unwrap(), found.as_slice());
        prop_assert_eq!(expected_bad, bad);
    }
}
