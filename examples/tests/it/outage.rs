//! A Kafka that is away for longer than a transaction, a session and all restarts of a task last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use iotml_core::testing::servers;

use crate::exactly_once::{BAD_EVERY, Topics, Worker, faults, fill};
use crate::kafka::{Fault, Kafka};

/// Longer than the 30 s that a start tries, and than a task with one restart would last if it gave up.
const AWAY: Duration = Duration::from_secs(75);

#[test]
fn inv_9_an_outage_ends_no_worker_and_costs_at_most_one_restart() {
    if servers::kafka().is_none() {
        return;
    }
    let kafka = Kafka::start();
    let topics = Arc::new(Topics::new(&kafka.address(), "outage"));
    let (folder, stop) = (tempfile::tempdir().unwrap(), Arc::new(AtomicBool::new(false)));
    let filler = thread::spawn({
        let (topics, stop) = (topics.clone(), stop.clone());
        move || fill(&topics, &stop)
    });
    // The cluster ends transactions meanwhile, and with them the producers: each task has one new one for that. Small transactions,
    // so that most of the time one is being committed.
    let configuration = |number| {
        let options = "[pipeline]\n            restart_max = 1\n            transaction_interval = \"1ms\"";
        topics.configuration(number).replacen("[pipeline]", options, 1)
    };
    let mut workers = [0, 1].map(|number| Worker::start(&configuration(number), folder.path(), number));
    topics.wait_committed(10_000, &mut workers);
    kafka.suffer(Fault::Away(AWAY));
    stop.store(true, Ordering::Relaxed);
    let n = filler.join().unwrap();
    topics.wait_committed(n, &mut workers);
    workers.iter_mut().for_each(Worker::end);
    let is_bad = |seq: usize| seq.is_multiple_of(BAD_EVERY);
    let (out, dead) = (topics.read("out", "read_committed"), topics.read("dead", "read_committed"));
    let (good, bad) = (faults(&out, &|seq| !is_bad(seq), n), faults(&dead, &is_bad, n));
    println!("outage of {AWAY:?}: {} rows and {} dead letters", out.len(), dead.len());
    assert_eq!((good, bad), ((0, 0, 0), (0, 0, 0)));
}
