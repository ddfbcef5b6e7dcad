use super::*;

const STRICT: Allowance = Allowance { input_repeats: 0, output_repeats: 0, n_rewinds: 0, is_ordered: true };

/// Two cars of six messages each; the third of car 1 is poison.
struct Made {
    truth: Truth,
    input: Vec<Vec<Row>>,
    predictions: Vec<Vec<Row>>,
    dead_letters: Vec<Vec<Row>>,
}

fn rows(car: u32, seqs: impl IntoIterator<Item = u64>) -> Vec<Row> {
    seqs.into_iter().map(|seq| Row { car, seq }).collect()
}

fn made() -> Made {
    Made {
        truth: Truth { acked: [(0, 6), (1, 6)].into(), poison: [Row { car: 1, seq: 2 }].into() },
        input: vec![rows(0, 0..6), rows(1, 0..6)],
        predictions: vec![rows(1, [0, 1, 3, 4, 5]), rows(0, 0..6)],
        dead_letters: vec![rows(1, [2])],
    }
}

impl Made {
    fn findings(&self) -> Findings {
        let Self { truth, input, predictions, dead_letters } = self;
        Findings::new(truth, Topics { input, predictions, dead_letters })
    }

    /// The one thing that the checker has to say.
    fn failure(&self, allowed: Allowance) -> String {
        let failures = self.findings().failures(&allowed);
        assert_eq!(failures.len(), 1, "{failures:?}");
        failures[0].clone()
    }
}

#[test]
fn topics_as_they_should_be_pass() {
    let findings = made().findings();
    assert_eq!(findings, Findings::default());
    assert!(findings.is_complete() && findings.failures(&STRICT).is_empty());
}

#[test]
fn inv_1_an_acknowledged_message_that_is_not_in_kafka_is_found() {
    let mut made = made();
    made.input[0].remove(3);
    made.predictions[1].remove(3);
    assert!(!made.findings().is_complete());
    assert!(made.failure(STRICT).starts_with("1 acknowledged messages are not in Kafka"));
    made.truth.acked.insert(0, 3);
    assert!(made.findings().is_complete(), "what was not acknowledged may be missing");
    made.truth.acked.insert(2, 1);
    assert!(made.failure(STRICT).starts_with("1 acknowledged messages"), "a car of which nothing came");
}

#[test]
fn inv_4_a_row_without_a_result_is_found() {
    let mut made = made();
    made.predictions[0].pop();
    assert!(made.failure(STRICT).starts_with("1 rows have neither"));
}

#[test]
fn inv_4_each_row_of_a_repeated_message_needs_a_result() {
    let mut made = made();
    made.input[0].push(Row { car: 0, seq: 5 });
    let allowed = Allowance { input_repeats: 1, ..STRICT };
    assert!(made.failure(allowed).starts_with("1 rows have neither"));
    made.predictions[1].push(Row { car: 0, seq: 5 });
    assert!(made.findings().failures(&allowed).is_empty());
}

#[test]
fn repeats_beyond_the_bound_are_found() {
    let mut made = made();
    // A crash before the last two rows of the input were acknowledged.
    made.input[0].extend(rows(0, [4, 5]));
    made.predictions[1].extend(rows(0, [4, 5]));
    let allowed = Allowance { input_repeats: 2, ..STRICT };
    assert!(made.findings().failures(&allowed).is_empty());
    assert!(made.failure(Allowance { input_repeats: 1, ..allowed }).contains("2 rows of the input are repeats"));
    // And one of the scorer.
    made.predictions[1].extend(rows(0, [3, 4, 5, 4, 5]));
    let allowed = Allowance { output_repeats: 5, n_rewinds: 2, ..allowed };
    assert!(made.findings().failures(&allowed).is_empty(), "{:?}", made.findings());
    assert!(made.failure(Allowance { output_repeats: 4, ..allowed }).contains("5 results are repeats"));
}

#[test]
fn inv_11_first_occurrences_out_of_the_order_of_publishing_are_found() {
    let mut made = made();
    made.input[0].swap(2, 3);
    made.predictions[1].swap(2, 3);
    assert!(made.failure(STRICT).contains("came to Kafka out of order"));
    assert!(made.findings().failures(&Allowance { is_ordered: false, ..STRICT }).is_empty());
    made.predictions[1].swap(2, 3);
    let failures = made.findings().failures(&Allowance { is_ordered: false, n_rewinds: 9, ..STRICT });
    assert!(failures[0].contains("first results are out of order"), "{failures:?}");
}

#[test]
fn inv_11_first_results_out_of_the_order_of_the_input_are_found() {
    let mut made = made();
    made.predictions[1].swap(0, 1);
    assert!(made.failure(Allowance { n_rewinds: 1, ..STRICT }).contains("first results are out of order"));
}

#[test]
fn inv_11_repeats_come_in_order_after_one_step_back_for_each_crash() {
    let mut made = made();
    made.predictions[1] = rows(0, [0, 1, 2, 3, 2, 3, 4, 5]);
    let allowed = Allowance { output_repeats: 2, n_rewinds: 1, ..STRICT };
    assert!(made.findings().failures(&allowed).is_empty());
    made.predictions[1] = rows(0, [0, 1, 2, 3, 3, 2, 4, 5]);
    assert!(made.findings().failures(&allowed).is_empty(), "no telling from a crash before the 2");
    made.predictions[1] = rows(0, [0, 1, 2, 3, 1, 3, 2, 4, 5]);
    let allowed = Allowance { output_repeats: 3, ..allowed };
    assert!(made.failure(allowed).starts_with("2 times the results of one car began again"));
}

#[test]
fn inv_11_a_crash_may_repeat_the_disorder_of_its_input() {
    let mut made = made();
    made.input[0] = rows(0, [1, 0, 3, 2, 5, 4]);
    made.predictions[1] = rows(0, [1, 0, 3, 2, 1, 0, 3, 2, 5, 4]);
    let allowed = Allowance { is_ordered: false, output_repeats: 4, n_rewinds: 1, ..STRICT };
    assert!(made.findings().failures(&allowed).is_empty(), "{:?}", made.findings());
    assert!(made.failure(Allowance { n_rewinds: 0, ..allowed }).starts_with("1 times the results"));
}

#[test]
fn inv_7_a_result_in_the_wrong_topic_is_found() {
    let mut made = made();
    made.dead_letters[0][0] = Row { car: 1, seq: 3 };
    made.predictions[0][2] = Row { car: 1, seq: 2 };
    assert!(made.failure(STRICT).starts_with("2 rows are predicted"));
}

#[test]
fn a_car_in_two_partitions_is_found() {
    let mut made = made();
    let last = made.input[0].pop().unwrap();
    made.input[1].push(last);
    assert!(made.failure(STRICT).starts_with("1 cars are in more than one partition"));
}
