//! Compares what the publishers know with what the topics hold.

use std::collections::{BTreeMap, HashMap, HashSet};

/// Message `seq` of a car.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row {
    pub car: u32,
    pub seq: u64,
}

impl Row {
    /// A row that no publisher sent.
    pub const STRANGE: Self = Self { car: u32::MAX, seq: u64::MAX };
}

/// What the publishers know.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Of each car, how many messages from the first on were acknowledged to it.
    pub acked: BTreeMap<u32, u64>,
    /// Which messages nobody can decode.
    pub poison: HashSet<Row>,
}

/// What the topics hold: rows by partition, in the order of their offsets.
#[derive(Clone, Copy, Debug)]
pub struct Topics<'a> {
    pub input: &'a [Vec<Row>],
    pub predictions: &'a [Vec<Row>],
    pub dead_letters: &'a [Vec<Row>],
}

/// What may happen under the faults of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Rows that may stand in the input once more.
    pub input_repeats: u64,
    /// Results that may come once more.
    pub output_repeats: u64,
    /// Times that the scoring of a partition may begin again at an earlier row.
    pub n_rewinds: u64,
    /// Whether the order of first occurrences holds from MQTT to Kafka.
    pub is_ordered: bool,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Acknowledged messages that are not in the input.
    pub lost_before_kafka: u64,
    /// Rows of the input without a result.
    pub lost_behind_kafka: u64,
    /// Rows of the input beyond the first of each message.
    pub input_repeats: u64,
    /// Results beyond one for each row of the input.
    pub output_repeats: u64,
    /// First occurrences in the input that are not in the order of publishing.
    pub input_disorder: u64,
    /// First occurrences in the output that are not in the order of the input.
    pub output_disorder: u64,
    /// The fewest crashes that explain the steps back in the results of one car.
    pub rewinds: u64,
    /// Predictions of messages that cannot be decoded, and dead letters of ones that can.
    pub misplaced: u64,
    /// Cars whose rows are in more than one partition of a topic.
    pub scattered: u64,
}

impl Findings {
    /// Compares.
    pub fn new(truth: &Truth, topics: Topics<'_>) -> Self {
        let input = count(topics.input);
        let mut output = count(topics.predictions);
        for (row, n) in count(topics.dead_letters) {
            *output.entry(row).or_default() += n;
        }
        let published = truth.acked.iter().flat_map(|(car, n)| (0..*n).map(|seq| Row { car: *car, seq }));
        let lost_before_kafka = published.filter(|row| !input.contains_key(row)).count() as u64;
        let n_results = |row: &Row| output.get(row).copied().unwrap_or(0);
        let lost_behind_kafka = input.iter().map(|(row, n)| n.saturating_sub(n_results(row))).sum();
        let n_inputs = |row: &Row| input.get(row).copied().unwrap_or(0);
        let output_repeats = output.iter().map(|(row, n)| n.saturating_sub(n_inputs(row))).sum();
        let of_poison = |partitions: &[Vec<Row>], is_poison: bool| {
            partitions.iter().flatten().filter(|row| truth.poison.contains(row) == is_poison).count() as u64
        };

        let before = by_car(topics.input);
        let (predicted, dead) = (by_car(topics.predictions), by_car(topics.dead_letters));
        let input_disorder = before.values().map(|rows| descents(&firsts(rows))).sum();
        let (mut output_disorder, mut rewinds) = (0, 0);
        for (after, is_poison) in [(&predicted, false), (&dead, true)] {
            for (car, rows) in after {
                let Some(input) = before.get(car) else { continue };
                let expected: Vec<u64> = input
                    .iter()
                    .copied()
                    .filter(|seq| truth.poison.contains(&Row { car: *car, seq: *seq }) == is_poison)
                    .collect();
                // Behind a shared subscription numbers go up and down; places in the input do not, but for its own repeats.
                let (expected, rows) = (places(&expected, &expected), places(&expected, rows));
                output_disorder += descents(&firsts(&rows));
                // A crash steps back once, and may repeat steps of the input.
                let steps = descents(&expected);
                rewinds = rewinds.max(descents(&rows).saturating_sub(steps).div_ceil(1 + steps));
            }
        }
        Self {
            lost_before_kafka,
            lost_behind_kafka,
            input_repeats: input.values().map(|n| n - 1).sum(),
            output_repeats,
            input_disorder,
            output_disorder,
            rewinds,
            misplaced: of_poison(topics.predictions, true) + of_poison(topics.dead_letters, false),
            scattered: scattered(topics.input) + scattered(topics.predictions),
        }
    }

    /// Whether all that was acknowledged is in Kafka, and all of that has results.
    pub fn is_complete(&self) -> bool {
        self.lost_before_kafka == 0 && self.lost_behind_kafka == 0
    }

    /// What should not have happened.
    pub fn failures(&self, allowed: &Allowance) -> Vec<String> {
        let checks = [
            (self.lost_before_kafka, 0, "acknowledged messages are not in Kafka (invariant 1)"),
            (self.lost_behind_kafka, 0, "rows have neither prediction nor dead letter (invariant 4)"),
            (self.input_repeats, allowed.input_repeats, "rows of the input are repeats"),
            (self.output_repeats, allowed.output_repeats, "results are repeats"),
            (
                self.input_disorder,
                if allowed.is_ordered { 0 } else { u64::MAX },
                "first occurrences came to Kafka out of order (invariant 11)",
            ),
            (self.output_disorder, 0, "first results are out of order (invariant 11)"),
            (self.rewinds, allowed.n_rewinds, "times the results of one car began again (invariant 11)"),
            (self.misplaced, 0, "rows are predicted that should be dead letters, or the other way round (invariant 7)"),
            (self.scattered, 0, "cars are in more than one partition"),
        ];
        let failed = checks.into_iter().filter(|(found, allowed, _)| found > allowed);
        failed.map(|(found, allowed, what)| format!("{found} {what}; at most {allowed} may be")).collect()
    }
}

fn count(partitions: &[Vec<Row>]) -> HashMap<Row, u64> {
    let mut counts = HashMap::new();
    for row in partitions.iter().flatten() {
        *counts.entry(*row).or_default() += 1;
    }
    counts
}

/// The numbers of each car's rows, in the order of the topic.
fn by_car(partitions: &[Vec<Row>]) -> BTreeMap<u32, Vec<u64>> {
    let mut cars: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for row in partitions.iter().flatten() {
        cars.entry(row.car).or_default().push(row.seq);
    }
    cars
}

fn scattered(partitions: &[Vec<Row>]) -> u64 {
    let mut n_partitions: HashMap<u32, u64> = HashMap::new();
    for rows in partitions {
        let cars: HashSet<u32> = rows.iter().map(|row| row.car).collect();
        cars.into_iter().for_each(|car| *n_partitions.entry(car).or_default() += 1);
    }
    n_partitions.values().filter(|n| **n > 1).count() as u64
}

/// Without repeats.
fn firsts(rows: &[u64]) -> Vec<u64> {
    let mut seen = HashSet::new();
    rows.iter().copied().filter(|seq| seen.insert(*seq)).collect()
}

/// How often the next number is smaller.
fn descents(rows: &[u64]) -> u64 {
    rows.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64
}

/// Where each row first stands in `before`, counted without repeats; rows that are not there are left out.
fn places(before: &[u64], rows: &[u64]) -> Vec<u64> {
    let places: HashMap<u64, u64> = firsts(before).into_iter().zip(0..).collect();
    rows.iter().filter_map(|seq| places.get(seq).copied()).collect()
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
