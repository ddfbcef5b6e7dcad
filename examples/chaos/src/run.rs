//! One seed from its first message to its verdict.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cars::mqtt::{Ledger, Load, publish};
use cars::process::{Failure, unix_seconds};
use tokio::sync::{Mutex, watch};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::check::{Allowance, Findings, Topics, Truth};
use crate::config::{self, Bridge, Scorer};
use crate::crew::Crew;
use crate::hands::{Hands, Proxies};
use crate::journal::Journal;
use crate::load;
use crate::plan::{Broker, Fault, Filter, Link, Plan};
use crate::report::{Line, Memory};
use crate::servers::{Ports, Servers};
use crate::topics::{self, Counter, N_PARTITIONS, Names, Reader};
use crate::worker::{Recipe, Worker};

/// How long a single thing may take.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// When nothing comes for so long, nothing will: the longest pause between two tries, and a session time-out.
const QUIET: Duration = Duration::from_secs(20);

/// What stands while seed after seed is run.
pub struct Stage {
    pub servers: Arc<Servers>,
    pub ports: Ports,
    pub proxies: Proxies,
    pub worker: PathBuf,
    /// The bridge's program and the `type` of its source.
    pub bridge: (PathBuf, &'static str),
    pub model: PathBuf,
    pub n_cars: u32,
    /// Messages per second of each car.
    pub rate: f64,
}

/// One seed on its way.
pub struct Run<'a> {
    pub stage: &'a Stage,
    pub plan: &'a Plan,
    pub name: String,
    pub hands: Arc<Hands>,
    bridges: Arc<Crew>,
    pub truth: Truth,
    n_resent: u64,
    pub input: Reader,
    predictions: Reader,
    dead_letters: Reader,
    pub journal: Arc<Journal>,
    pub failures: Vec<String>,
    /// What is missing will not come any more.
    is_given_up: bool,
}

/// Runs a plan, with its files in `folder`.
pub async fn run(stage: &Stage, plan: &Plan, folder: &Path) -> Result<Line, Failure> {
    let journal = Arc::new(Journal::create(&folder.join("journal"))?);
    journal.note(plan);
    let mut run = Run::begin(stage, plan, folder, journal).await?;
    let n_mqtt_before = stage.proxies.bridge_to_broker.n_connections();
    run.under_faults().await?;
    run.wait_for_results().await?;
    if plan.loses_session {
        run.lose_session().await?;
        run.wait_for_results().await?;
    }
    run.look_at_metrics(n_mqtt_before).await;
    let hands = run.hands.clone();
    hands.bridge.stop().await;
    // What a redelivery brought to Kafka in the meantime is scored, too.
    run.wait_for_results().await?;
    hands.scorer.stop().await;
    run.verdict(n_mqtt_before).await
}

impl<'a> Run<'a> {
    async fn begin(stage: &'a Stage, plan: &'a Plan, folder: &Path, journal: Arc<Journal>) -> Result<Self, Failure> {
        let name = format!("chaos-{}-{}-{}", plan.seed, unix_seconds(), std::process::id());
        let names = Names::new(&name);
        let (kafka, proxies) = (stage.ports.kafka, &stage.proxies);
        topics::create(kafka, &names).await?;
        let recipe = |name: &str, program: &Path, toml: String| -> Result<Recipe, Failure> {
            let config = folder.join(name).with_extension("toml");
            std::fs::write(&config, toml)?;
            let log = folder.join(name).with_extension("log");
            Ok(Recipe { name: name.to_owned(), program: program.to_owned(), config, log })
        };
        let scorer = |instance: &str| {
            let kafka = proxies.scorer_to_kafka.port();
            let toml = Scorer { instance, run: &name, model: &stage.model, kafka, names: &names }.toml();
            recipe(instance, &stage.worker, toml)
        };
        let count = |topic, n_partitions| Counter::new(kafka, topic, n_partitions);
        let bridges = Crew::new(
            count(&names.input, N_PARTITIONS),
            None,
            vec![proxies.bridge_to_broker.clone(), proxies.bridge_to_kafka.clone()],
        );
        let scorers = Crew::new(
            count(&names.predictions, N_PARTITIONS),
            Some(count(&names.dead_letters, 1)),
            vec![proxies.scorer_to_kafka.clone()],
        );
        let (program, source) = &stage.bridge;
        let bridge = Bridge {
            source,
            run: &name,
            filter: plan.filter,
            mqtt: proxies.bridge_to_broker.port(),
            kafka: proxies.bridge_to_kafka.port(),
            names: &names,
        };
        let bridge = Worker::start(recipe("bridge", program, bridge.toml())?, bridges.clone());
        let first = Worker::start(scorer("scorer-1")?, scorers.clone());
        let hands = Hands {
            servers: stage.servers.clone(),
            proxies: proxies.clone(),
            bridge,
            scorer: first,
            scorers,
            guests: [scorer("scorer-2")?, scorer("scorer-3")?],
            journal: journal.clone(),
            gone: Mutex::default(),
            kafka: Mutex::default(),
            broker: Mutex::default(),
            links: Default::default(),
        };
        hands.bridge.ready(PATIENCE).await?;
        hands.scorer.ready(PATIENCE).await?;
        journal.note("bridge and scorer are ready");
        let read = |topic, n_partitions| Reader::new(kafka, topic, n_partitions);
        Ok(Self {
            stage,
            plan,
            hands: Arc::new(hands),
            bridges,
            truth: Truth::default(),
            n_resent: 0,
            input: read(&names.input, N_PARTITIONS),
            predictions: read(&names.predictions, N_PARTITIONS),
            dead_letters: read(&names.dead_letters, 1),
            journal,
            failures: Vec::new(),
            is_given_up: false,
            name,
        })
    }

    /// Publishes and carries out the plan.
    async fn under_faults(&mut self) -> Result<(), Failure> {
        let n_messages = (self.plan.load.as_secs_f64() * self.stage.rate) as u64;
        let cars = 0..self.stage.n_cars;
        let hands = self.hands.clone();
        let (plan, journal) = (self.plan, self.journal.clone());
        let faults = hands.carry_out(plan);
        let publishing = async {
            let published = self.publish(cars, n_messages, Some(self.stage.rate)).await;
            journal.note("all is published");
            published
        };
        let (faults, published) = tokio::join!(faults, publishing);
        faults.and(published)
    }

    /// Publishes until all is acknowledged, and takes the truth down.
    pub async fn publish(
        &mut self,
        cars: std::ops::Range<u32>,
        n_messages: u64,
        rate: Option<f64>,
    ) -> Result<(), Failure> {
        let streams = load::streams(&self.name, cars.clone(), n_messages, self.plan.seed);
        let ledger = Ledger::new(cars.len());
        let (_stop, stopped) = watch::channel(false);
        publish(streams, &self.load(rate), ledger.clone(), stopped).await?;
        let n_missing = cars.len() as u64 * n_messages - ledger.acked();
        if n_missing > 0 {
            self.failures.push(format!("{n_missing} messages were never acknowledged to their publishers"));
        }
        self.n_resent += ledger.resent();
        self.truth.poison.extend(load::poison(cars.clone(), n_messages));
        self.truth.acked.extend(cars.zip(ledger.acked_by_stream()));
        Ok(())
    }

    pub fn load(&self, rate: Option<f64>) -> Load {
        let server = format!("127.0.0.1:{}", self.stage.ports.mqtt);
        Load { server, qos: 1, rate, ramp_up: Duration::from_millis(500), patience: PATIENCE }
    }

    /// Waits until every acknowledged message has all its results, or nothing more comes.
    async fn wait_for_results(&mut self) -> Result<(), Failure> {
        let (mut n_rows, mut since) = (0, Instant::now());
        loop {
            let findings = self.findings()?;
            if findings.is_complete() || self.is_given_up {
                return Ok(());
            }
            let topics = [&self.input, &self.predictions, &self.dead_letters];
            let n_now: usize = topics.iter().flat_map(|topic| &topic.rows).map(Vec::len).sum();
            if n_now != n_rows {
                (n_rows, since) = (n_now, Instant::now());
            } else if since.elapsed() > QUIET {
                self.journal.note(format_args!("nothing more comes: {findings:?}"));
                self.is_given_up = true;
                return Ok(());
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    fn findings(&mut self) -> Result<Findings, Failure> {
        block_in_place(|| {
            // Results first: a row that comes in between would seem to have none.
            self.dead_letters.read(PATIENCE)?;
            self.predictions.read(PATIENCE)?;
            self.input.read(PATIENCE)
        })?;
        let topics = Topics {
            input: &self.input.rows,
            predictions: &self.predictions.rows,
            dead_letters: &self.dead_letters.rows,
        };
        Ok(Findings::new(&self.truth, topics))
    }

    /// What only a running worker says.
    async fn look_at_metrics(&mut self, n_mqtt_before: u64) {
        let bridge = &self.hands.bridge;
        let dropped = bridge.metric("iotml_source_mqtt_dropped_messages_total").await;
        if dropped != Some(0) {
            self.failures.push(format!("the bridge dropped {dropped:?} messages"));
        }
        let reconnects = bridge.metric("iotml_source_mqtt_reconnects_total").await;
        let n_more = self.stage.proxies.bridge_to_broker.n_connections() - n_mqtt_before;
        self.journal.note(format_args!(
            "everything has its results; the bridge connected to the broker {n_more} times more, and counts {} lost connections",
            reconnects.map_or_else(|| "?".to_owned(), |n| n.to_string()),
        ));
        if !self.plan.disturbs_mqtt() && reconnects != Some(0) {
            self.failures
                .push(format!("the bridge lost its connection {reconnects:?} times for no reason (invariant 5)"));
        }
    }

    async fn verdict(mut self, n_mqtt_before: u64) -> Result<Line, Failure> {
        let findings = self.findings()?;
        let allowed = self.allowance(n_mqtt_before);
        let mut failures = std::mem::take(&mut self.failures);
        failures.extend(findings.failures(&allowed));
        let n_strange = self.input.n_strange + self.predictions.n_strange + self.dead_letters.n_strange;
        if n_strange > 0 {
            failures.push(format!("{n_strange} rows are nobody's"));
        }
        let gone = self.hands.gone.lock().await;
        let mut scorer = self.hands.scorer.seen();
        for guest in gone.iter().map(Worker::seen) {
            scorer.peak_rss = scorer.peak_rss.max(guest.peak_rss);
            scorer.gave_up.extend(guest.gave_up);
            scorer.n_failed_starts += guest.n_failed_starts;
        }
        let bridge = self.hands.bridge.seen();
        failures.extend(bridge.gave_up.iter().chain(&scorer.gave_up).cloned());
        let bridge_memory = Memory::new("bridge", &bridge, config::BRIDGE_BUFFERS);
        let scorer_memory = Memory::new("scorer", &scorer, config::SCORER_BUFFERS);
        for memory in [&bridge_memory, &scorer_memory] {
            failures.extend(memory.failure());
        }
        let (bridges, scorers) = (self.bridges.shifts().await, self.hands.scorers.shifts().await);
        for shift in bridges.iter().chain(&scorers).filter(|shift| !shift.is_true()) {
            failures.push(format!("a balance is wrong (invariant 4): {shift}"));
        }
        let line = Line {
            broker: self.plan.broker,
            seed: self.plan.seed,
            mode: String::new(),
            faults: self.plan.faults.iter().map(|planned| planned.fault.to_string()).collect(),
            filter: format!("{:?}", self.plan.filter).to_lowercase(),
            loses_session: self.plan.loses_session,
            published: self.truth.acked.values().sum(),
            resent: self.n_resent,
            lost: findings.lost_before_kafka + findings.lost_behind_kafka,
            input_repeats: (findings.input_repeats, allowed.input_repeats),
            output_repeats: (findings.output_repeats, allowed.output_repeats),
            disorder: findings.input_disorder,
            audits: (
                (bridges.len() + scorers.len()) as u64,
                bridges.iter().chain(&scorers).map(|s| s.audit.received).sum(),
            ),
            failed_starts: bridge.n_failed_starts + scorer.n_failed_starts,
            bridge_memory,
            scorer_memory,
            seconds: self.journal.seconds(),
            failures,
            is_cut_short: false,
        };
        for failure in &line.failures {
            self.journal.note(format_args!("FAILED: {failure}"));
        }
        self.journal.note(format_args!("{findings:?}"));
        Ok(line)
    }

    fn allowance(&self, n_mqtt_before: u64) -> Allowance {
        let plan = self.plan;
        // Every further connection of the bridge may bring what was in flight on the one before.
        let n_mqtt = self.stage.proxies.bridge_to_broker.n_connections() - n_mqtt_before;
        let disturbs_scorer = |fault: &Fault| {
            matches!(
                fault,
                Fault::KillScorer(_)
                    | Fault::RestartKafka { .. }
                    | Fault::HangKafka(_)
                    | Fault::Network(Link::ScorerToKafka, _)
            )
        };
        let n_regroups = plan.count(|fault| matches!(fault, Fault::Regroup(_)));
        let n_rewinds = plan.count(disturbs_scorer) + 4 * n_regroups;
        // Mosquitto 2.0.11 sends on beyond the Receive Maximum once it has resumed a session with more than that in its queue, and
        // after the next resumption older messages behind newer ones (docs/chaos.md).
        let is_beyond_its_window = plan.broker == Broker::Mosquitto && n_mqtt >= 2;
        let in_flight = match is_beyond_its_window {
            true => self.truth.acked.values().sum(),
            false => n_mqtt * config::RECEIVE_MAXIMUM,
        };
        Allowance {
            input_repeats: self.n_resent + in_flight,
            output_repeats: n_rewinds * config::SCORER_WINDOW,
            n_rewinds,
            is_ordered: plan.filter == Filter::Plain && !is_beyond_its_window,
        }
    }
}
