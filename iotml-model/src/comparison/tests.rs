use super::*;

fn row(version: &'static str, car: u8, time: i64, score: f32) -> Row<'static> {
    let id = row_id(Some(&[car]), Some(time));
    Row { version, id, time: Some(time), score: Some(score), anomaly: Some(score >= 10.0), latency: Some(time % 7) }
}

#[test]
fn versions_are_told_apart_and_compared_with_the_one_that_scored_most() {
    let mut comparison = Comparison::new(Labels::default(), 100);
    for time in 0..8 {
        // One anomaly in eight.
        comparison.add(Side::Acting, row("1", 1, time, if time == 3 { 12.0 } else { time as f32 }), false);
    }
    for time in 0..4 {
        // Two in four.
        comparison.add(Side::Acting, row("2", 2, time, if time < 2 { 20.0 } else { 5.0 }), false);
    }
    let nothing = Row { score: None, anomaly: None, latency: None, ..row("2", 2, 9, 0.0) };
    comparison.add(Side::Acting, nothing, false);
    comparison.add(Side::Acting, Row { score: Some(f32::NAN), ..nothing }, false);
    comparison.add_failure("2");
    let report = comparison.finish(None);
    assert_eq!(report.counts.n_rows, 14);
    let (one, two) = (report.version("1", false).unwrap(), report.version("2", false).unwrap());
    assert_eq!((one.n_rows, one.n_judged, one.n_anomalies, one.anomaly_rate), (8, 8, 1, Some(0.125)));
    assert_eq!((two.n_rows, two.n_judged, two.anomaly_rate, two.n_failed), (6, 4, Some(0.5), 1));
    assert_eq!((two.first, two.last), (Some(0), Some(9)));
    let score = one.score.as_ref().unwrap();
    // 0, 1, 2, 4, 5, 6, 7, 12.
    assert_eq!((score.n, score.mean, score.p50, score.max), (8, 37.0 / 8.0, 4.5, 12.0));
    assert_eq!(two.score.as_ref().unwrap().n, 4);
    assert_eq!(one.latency_ms.as_ref().unwrap().max, 6.0);
    let [arm] = &report.arms[..] else { panic!("{:?}", report.arms) };
    assert_eq!((arm.version.as_str(), arm.against.as_str()), ("2", "1"));
    assert_eq!((arm.anomaly_rate_difference, arm.anomaly_rate_ratio), (Some(0.375), Some(4.0)));
    // Behind 4 lie half of the first and none of the second; behind 12 all and half.
    assert_eq!(arm.ks, Some(0.5));
    assert!(report.shadows.is_empty());
    assert_eq!((report.unmatched.acting, report.unmatched.shadow), (0, 0));
}

#[test]
fn a_shadow_is_compared_row_by_row_with_whoever_acted_on_it() {
    let mut comparison = Comparison::new(Labels::default(), 100);
    // Car 1 is the first version's, car 2 the canary's.
    for (car, version) in [(1, "1"), (2, "2")] {
        for (time, score) in [(0, 1.0), (1, 11.0), (2, 3.0)] {
            comparison.add(Side::Acting, row(version, car, time, score), true);
        }
    }
    for (car, time, score) in [(1, 0, 2.0), (1, 1, 12.0), (1, 2, 13.0), (2, 0, 1.0), (2, 1, 5.0), (2, 7, 1.0)] {
        comparison.add(Side::Shadow, row("3", car, time, score), true);
    }
    comparison.counts().n_shadow_failures += 4;
    let report = comparison.finish(None);
    let [first, second] = &report.shadows[..] else { panic!("{:?}", report.shadows) };
    assert_eq!((first.acting.as_str(), first.shadow.as_str()), ("1", "3"));
    assert_eq!((first.n_pairs, first.n_both, first.n_neither, first.n_only_shadow), (3, 1, 1, 1));
    assert_eq!((first.agreement, first.score_mean_difference), (Some(2.0 / 3.0), Some(4.0)));
    assert_eq!((second.n_pairs, second.n_neither, second.n_only_acting, second.agreement), (2, 1, 1, Some(0.5)));
    assert_eq!((report.unmatched.acting, report.unmatched.shadow), (1, 1));
    let shadow = report.version("3", true).unwrap();
    assert_eq!((shadow.n_rows, shadow.n_anomalies, shadow.n_failed), (6, 2, 4));
    // An acting version of the same name is another entry; a shadow is no arm.
    assert_eq!(report.version("3", false).map(|it| it.n_rows), None);
    assert_eq!(report.arms.len(), 1);
}

#[test]
fn labels_tell_how_well_each_version_does() {
    let mut labels = Labels::new(10);
    for (car, time, is) in [(1, 0, true), (1, 1, false), (1, 2, true), (9, 9, true)] {
        labels.add(row_id(Some(&[car]), Some(time)), is);
    }
    let mut comparison = Comparison::new(labels, 100);
    for (time, acting, shadow) in [(0, 11.0, 1.0), (1, 12.0, 1.0), (2, 1.0, 1.0), (3, 1.0, 1.0)] {
        comparison.add(Side::Acting, row("1", 1, time, acting), true);
        comparison.add(Side::Shadow, row("2", 1, time, shadow), true);
    }
    let report = comparison.finish(None);
    let acting = report.version("1", false).unwrap().labelled.as_ref().unwrap();
    assert_eq!((acting.n, acting.precision, acting.recall, acting.f1), (3, Some(0.5), Some(0.5), Some(0.5)));
    let shadow = report.version("2", true).unwrap().labelled.as_ref().unwrap();
    assert_eq!((shadow.n, shadow.precision, shadow.recall), (3, None, Some(0.0)));
    assert_eq!((report.n_labels, report.unmatched.labels.without_row), (4, 1));
}

#[test]
fn what_is_kept_is_bounded_by_versions_and_rows_that_wait() {
    let mut comparison = Comparison::new(Labels::default(), 1_000);
    let names: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    for (time, version) in (0..).zip(names.iter().cycle()).take(10_000) {
        comparison.add(Side::Acting, Row { version, ..row("", 1, time, 1.0) }, true);
    }
    let report = comparison.finish(None);
    assert_eq!((report.versions.len(), report.counts.n_rows, report.counts.n_other_versions), (64, 10_000, 3_600));
    assert_eq!(report.unmatched.acting, 6_400);
}
