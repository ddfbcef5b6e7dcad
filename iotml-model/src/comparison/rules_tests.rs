use iotml_core::cli::clap::{Command, FromArgMatches};

use super::super::{Comparison, Labels, Row, Side, row_id};
use super::*;

fn rules(arguments: &str) -> Rules {
    let command = Rules::augment_args(Command::new("rules"));
    let words = ["rules", "--min-rows", "100", "--min-time", "1s"].into_iter().chain(arguments.split_whitespace());
    Rules::from_arg_matches(&command.args_override_self(true).get_matches_from(words)).unwrap()
}

/// A version and how many rows, anomalies and failures it has; rows are a tenth of a second apart.
struct Told(&'static str, Side, u64, u64, u64);

fn report(labels: bool, told: &[Told]) -> Report {
    let id = |at| row_id(None, Some(at));
    let mut known = Labels::new(100_000);
    if labels {
        // One row in ten is an anomaly.
        (0..10_000).for_each(|at| known.add(id(at), at % 10 == 0));
    }
    let mut comparison = Comparison::new(known, 100_000);
    for Told(version, side, n, n_anomalies, n_failed) in told {
        for at in 0..*n {
            let time = at as i64 * 100;
            let is_anomaly = at < *n_anomalies;
            let score = Some(if is_anomaly { 9.0 } else { 1.0 });
            let (id, anomaly) = (id(at as i64), Some(is_anomaly));
            comparison.add(*side, Row { version, id, time: Some(time), score, anomaly, latency: None }, true);
        }
        match side {
            Side::Acting => (0..*n_failed).for_each(|_| comparison.add_failure(version)),
            Side::Shadow => comparison.counts().n_shadow_failures += n_failed,
        }
    }
    comparison.finish(Some("1"))
}

use Side::{Acting, Shadow};

#[track_caller]
fn judged(arguments: &str, is_shadow: bool, told: &[Told], outcome: Outcome, says: &[(&str, State)]) {
    let judgement = rules(arguments).judge(&report(true, told), "2", is_shadow, "1");
    assert_eq!(judgement.outcome, outcome, "{judgement:?}");
    for (rule, state) in says {
        let finding = judgement.findings.iter().find(|finding| finding.rule == *rule);
        assert_eq!(finding.map(|finding| finding.state), Some(*state), "{judgement:?}");
    }
}

#[test]
fn a_version_waits_until_it_has_rows_and_time_and_is_promoted_then() {
    let one = || Told("1", Acting, 1000, 20, 0);
    judged("", false, &[one()], Outcome::Wait, &[("min_rows", State::Open), ("min_time", State::Open)]);
    let few = [one(), Told("2", Acting, 99, 99, 99)];
    judged("--min-rows 200", false, &few, Outcome::Wait, &[("max_anomaly_ratio", State::Open)]);
    let short = [one(), Told("2", Acting, 100, 2, 0)];
    judged("--min-time 1m", false, &short, Outcome::Wait, &[("min_rows", State::Holds), ("min_time", State::Open)]);
    judged("", false, &short, Outcome::Promote, &[("max_anomaly_ratio", State::Holds)]);
}

#[test]
fn too_many_anomalies_cost_a_version_its_place_before_its_time_is_up_but_chance_does_not() {
    let one = || Told("1", Acting, 1000, 20, 0);
    let many = [one(), Told("2", Acting, 500, 60, 0)];
    judged("--min-time 1h", false, &many, Outcome::Retire, &[("max_anomaly_ratio", State::Broken)]);
    judged("--max-anomaly-ratio 10", false, &many, Outcome::Promote, &[]);
    // One of a hundred, where the other has none of a thousand.
    let chance = [Told("1", Acting, 1000, 0, 0), Told("2", Acting, 100, 1, 0)];
    judged("", false, &chance, Outcome::Promote, &[]);
    let certain = [Told("1", Acting, 1000, 0, 0), Told("2", Acting, 100, 10, 0)];
    judged("", false, &certain, Outcome::Retire, &[]);
    let silent = [Told("1", Acting, 1000, 100, 0), Told("2", Acting, 1000, 0, 0)];
    judged("", false, &silent, Outcome::Promote, &[]);
    judged("--min-anomaly-ratio 0.2", false, &silent, Outcome::Retire, &[("min_anomaly_ratio", State::Broken)]);
}

#[test]
fn rows_that_it_alone_fails_to_score_cost_a_version_its_place() {
    let bad = |of_one, of_two| [Told("1", Acting, 1000, 0, of_one), Told("2", Acting, 1000, 0, of_two)];
    judged("", false, &bad(0, 5), Outcome::Promote, &[]);
    judged("", false, &bad(0, 50), Outcome::Retire, &[("max_bad_share", State::Broken)]);
    // The data are bad.
    judged("", false, &bad(50, 50), Outcome::Promote, &[]);
    let nothing = [Told("1", Acting, 1000, 0, 0), Told("2", Acting, 0, 0, 1000)];
    judged("", false, &nothing, Outcome::Retire, &[("max_bad_share", State::Broken)]);
    let shadow = [Told("1", Acting, 1000, 0, 0), Told("2", Shadow, 900, 0, 100)];
    judged("", true, &shadow, Outcome::Retire, &[("max_bad_share", State::Broken)]);
}

#[test]
fn a_shadow_is_judged_by_its_agreement() {
    let pair = |n_anomalies| [Told("1", Acting, 1000, 100, 0), Told("2", Shadow, 1000, n_anomalies, 0)];
    judged("--min-agreement 0.95", true, &pair(120), Outcome::Promote, &[("min_agreement", State::Holds)]);
    judged("--min-agreement 0.99", true, &pair(120), Outcome::Retire, &[("min_agreement", State::Broken)]);
    judged("--max-ks 0.01", true, &pair(120), Outcome::Retire, &[("max_ks", State::Broken)]);
    let alone = [Told("2", Shadow, 1000, 10, 0)];
    judged("--min-agreement 0.9", true, &alone, Outcome::Wait, &[("min_agreement", State::Open)]);
}

#[test]
fn precision_and_recall_count_where_there_are_labels() {
    let all = [Told("1", Acting, 1000, 100, 0), Told("2", Acting, 1000, 100, 0)];
    // It says so of the first hundred rows, of which ten are anomalies.
    judged("--min-precision 0.05 --min-recall 0.05", false, &all, Outcome::Promote, &[]);
    judged("--min-precision 0.5", false, &all, Outcome::Retire, &[("min_precision", State::Broken)]);
    judged("--min-recall 0.2", false, &all, Outcome::Retire, &[("min_recall", State::Broken)]);
    judged("--min-recall 0.2 --min-labels 1001", false, &all, Outcome::Wait, &[("min_recall", State::Open)]);
    let unlabelled = rules("--min-recall 0.2").judge(&report(false, &all), "2", false, "1");
    assert_eq!(unlabelled.outcome, Outcome::Wait);
}
