//! Carries out the faults of a plan, each at its time, whether or not an earlier one is over.

use std::sync::Arc;

use cars::process::Failure;
use rustix::process::Signal;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::crew::Crew;
use crate::journal::Journal;
use crate::plan::{Fault, Link, Plan};
use crate::proxy::Proxy;
use crate::servers::Servers;
use crate::worker::{Recipe, Worker};

/// The proxies of the three links.
#[derive(Clone, Debug)]
pub struct Proxies {
    pub bridge_to_broker: Arc<Proxy>,
    pub bridge_to_kafka: Arc<Proxy>,
    pub scorer_to_kafka: Arc<Proxy>,
}

impl Proxies {
    /// On free ports, leading nowhere yet.
    pub async fn start() -> std::io::Result<Self> {
        let [bridge_to_broker, bridge_to_kafka, scorer_to_kafka] =
            [Proxy::start().await?, Proxy::start().await?, Proxy::start().await?].map(Arc::new);
        Ok(Self { bridge_to_broker, bridge_to_kafka, scorer_to_kafka })
    }

    fn of(&self, link: Link) -> &Proxy {
        match link {
            Link::BridgeToBroker => &self.bridge_to_broker,
            Link::BridgeToKafka => &self.bridge_to_kafka,
            Link::ScorerToKafka => &self.scorer_to_kafka,
        }
    }
}

/// What faults are done to.
pub struct Hands {
    pub servers: Arc<Servers>,
    pub proxies: Proxies,
    pub bridge: Worker,
    pub scorer: Worker,
    pub scorers: Arc<Crew>,
    /// The two scorers that come and go.
    pub guests: [Recipe; 2],
    pub journal: Arc<Journal>,
    /// Scorers that have come and gone.
    pub gone: Mutex<Vec<Worker>>,
    /// One thing at a time is done to each of these.
    pub kafka: Mutex<()>,
    pub broker: Mutex<()>,
    pub links: [Mutex<()>; 3],
}

impl Hands {
    /// Carries out the whole plan, from now on.
    pub async fn carry_out(self: &Arc<Self>, plan: &Plan) -> Result<(), Failure> {
        let start = Instant::now();
        let mut running = JoinSet::new();
        for planned in plan.faults.clone() {
            let this = self.clone();
            running.spawn(async move {
                sleep_until(start + planned.at).await;
                this.journal.note(format_args!("begins: {}", planned.fault));
                let done = this.act(planned.fault).await;
                this.journal.note(format_args!("over:   {}", planned.fault));
                done
            });
        }
        while let Some(done) = running.join_next().await {
            done??;
        }
        Ok(())
    }

    async fn act(&self, fault: Fault) -> Result<(), Failure> {
        match fault {
            Fault::KillBridge(pause) => self.bridge.kill(pause).await,
            Fault::KillScorer(pause) => self.scorer.kill(pause).await,
            Fault::RestartBroker => {
                let _one_at_a_time = self.broker.lock().await;
                self.servers.restart_broker().await?;
            }
            Fault::RestartKafka { kill } => {
                let _one_at_a_time = self.kafka.lock().await;
                self.servers.restart_kafka(kill).await?;
            }
            Fault::HangKafka(time) => {
                let _one_at_a_time = self.kafka.lock().await;
                self.servers.signal_kafka(Signal::STOP)?;
                sleep(time).await;
                self.servers.signal_kafka(Signal::CONT)?;
            }
            Fault::Network(link, trouble) => {
                let _one_at_a_time = self.links[link as usize].lock().await;
                self.proxies.of(link).trouble(trouble).await;
            }
            Fault::Regroup(time) => {
                let guests = self.guests.clone().map(|recipe| Worker::start(recipe, self.scorers.clone()));
                sleep(time).await;
                tokio::join!(guests[0].stop(), guests[1].stop());
                self.gone.lock().await.extend(guests);
            }
        }
        Ok(())
    }
}
