//! What happens to the servers, the workers and the network between them, drawn from a seed before anything runs.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

/// The MQTT broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Broker {
    Mosquitto,
    Hivemq,
}

impl Broker {
    /// Its name in `deploy/servers`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mosquitto => "mosquitto",
            Self::Hivemq => "hivemq",
        }
    }
}

/// How the bridge subscribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// One connection: the order of first occurrences holds.
    Plain,
    /// Three connections share the messages.
    Shared,
}

impl Filter {
    /// Connections of the bridge.
    pub fn n_connections(self) -> u64 {
        match self {
            Self::Plain => 1,
            Self::Shared => 3,
        }
    }
}

/// A connection of a worker, through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    BridgeToBroker,
    BridgeToKafka,
    ScorerToKafka,
}

impl Link {
    pub const ALL: [Self; 3] = [Self::BridgeToBroker, Self::BridgeToKafka, Self::ScorerToKafka];
}

/// Which way a half-closed connection no longer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Worker,
    Server,
}

/// What becomes of the connections of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Reset at once.
    Cut,
    /// Nothing more comes to this side, which is told so.
    HalfClose(Side),
    /// Nothing passes for so long, and nobody is told.
    Stall(Duration),
    /// Everything takes so much longer, for so long.
    Delay { by: Duration, time: Duration },
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9; started again after the pause.
    KillBridge(Duration),
    /// kill -9; started again after the pause.
    KillScorer(Duration),
    /// Stopped in good order and started again, with its sessions.
    RestartBroker,
    /// Stopped in good order or by kill -9, and started again.
    RestartKafka { kill: bool },
    /// SIGSTOP, and SIGCONT after so long.
    HangKafka(Duration),
    /// A fault of the network.
    Network(Link, Trouble),
    /// Two more scorers join the group, and leave it after so long.
    Regroup(Duration),
}

/// A fault and when it begins, counted from the start of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    pub at: Duration,
    pub fault: Fault,
}

/// The schedule of one seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub seed: u64,
    pub broker: Broker,
    pub filter: Filter,
    pub faults: Vec<Planned>,
    /// Whether the broker forgets the bridge's session when all is quiet, after which a little more is published.
    pub loses_session: bool,
    /// How long the cars publish.
    pub load: Duration,
}

impl Plan {
    /// The schedule of `seed`: the same for every run.
    pub fn new(seed: u64, broker: Broker, load: Duration, is_short: bool) -> Self {
        let mut rng = Pcg64::seed_from_u64(seed);
        let filter = if rng.random_bool(0.25) { Filter::Shared } else { Filter::Plain };
        let mut faults = vec![Fault::KillBridge(pause(&mut rng))];
        let mut heavy = vec![
            Fault::RestartKafka { kill: rng.random_bool(0.5) },
            Fault::HangKafka(Duration::from_secs(12)),
            Fault::RestartBroker,
        ];
        // Mosquitto 2.0.11 loses messages of shared subscriptions in a restart (docs of MqttSource), so it has plain ones there.
        if broker == Broker::Mosquitto && filter == Filter::Shared {
            heavy.pop();
        }
        heavy.shuffle(&mut rng);
        heavy.truncate(if is_short { 1 } else { rng.random_range(1..=2) });
        faults.extend(heavy);
        for _ in 0..rng.random_range(1..=2) {
            faults.push(Fault::KillScorer(pause(&mut rng)));
        }
        if rng.random_bool(0.5) {
            faults.push(Fault::KillBridge(pause(&mut rng)));
        }
        for _ in 0..if is_short { 1 } else { rng.random_range(2..=4) } {
            faults.push(network(&mut rng));
        }
        let (regroups, loses_session) = (rng.random_bool(0.3), rng.random_bool(0.3));
        if regroups {
            faults.push(Fault::Regroup(millis(&mut rng, 4_000..8_000)));
        }
        let latest = load.as_millis() as u64 * 9 / 10;
        let mut faults: Vec<Planned> =
            faults.into_iter().map(|fault| Planned { at: millis(&mut rng, 500..latest), fault }).collect();
        faults.sort_by_key(|planned| planned.at);
        Self { seed, broker, filter, faults, loses_session, load }
    }

    /// Nothing but a Kafka that hangs for so long, in the middle of the load.
    pub fn hang(broker: Broker, time: Duration) -> Self {
        let at = Duration::from_secs(5);
        let faults = vec![Planned { at, fault: Fault::HangKafka(time) }];
        Self { seed: 0, broker, filter: Filter::Plain, faults, loses_session: false, load: at + time + at }
    }

    /// How many faults fit the description.
    pub fn count(&self, is: impl Fn(&Fault) -> bool) -> u64 {
        self.faults.iter().filter(|planned| is(&planned.fault)).count() as u64
    }

    /// Whether anything but the bridge itself ends its MQTT connection.
    pub fn disturbs_mqtt(&self) -> bool {
        let disturbs = |fault: &Fault| matches!(fault, Fault::RestartBroker | Fault::Network(Link::BridgeToBroker, _));
        self.loses_session || self.count(disturbs) > 0
    }
}

fn millis(rng: &mut Pcg64, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}

fn pause(rng: &mut Pcg64) -> Duration {
    millis(rng, 0..1_500)
}

fn network(rng: &mut Pcg64) -> Fault {
    let link = Link::ALL[rng.random_range(0..Link::ALL.len())];
    let trouble = match rng.random_range(0..5) {
        0 => Trouble::Cut,
        1 => Trouble::HalfClose(Side::Worker),
        2 => Trouble::HalfClose(Side::Server),
        3 => Trouble::Stall(millis(rng, 1_000..9_000)),
        _ => Trouble::Delay { by: millis(rng, 20..400), time: millis(rng, 1_000..4_000) },
    };
    Fault::Network(link, trouble)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, broker, filter, load, .. } = self;
        write!(f, "seed {seed} over {}, {filter:?} subscription, load for {load:?}", broker.name())?;
        for Planned { at, fault } in &self.faults {
            write!(f, "\n  {:>5.1} s  {fault}", at.as_secs_f64())?;
        }
        if self.loses_session {
            write!(f, "\n    then   the broker forgets the bridge's session")?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillBridge(pause) => write!(f, "kill -9 of the bridge, back after {pause:?}"),
            Self::KillScorer(pause) => write!(f, "kill -9 of the scorer, back after {pause:?}"),
            Self::RestartBroker => write!(f, "restart of the mqtt broker"),
            Self::RestartKafka { kill: true } => write!(f, "kill -9 and restart of Kafka"),
            Self::RestartKafka { kill: false } => write!(f, "restart of Kafka"),
            Self::HangKafka(time) => write!(f, "Kafka hangs for {time:?}"),
            Self::Network(link, trouble) => write!(f, "{link:?}: {trouble:?}"),
            Self::Regroup(time) => write!(f, "two more scorers join, and leave after {time:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Duration = Duration::from_secs(20);

    #[test]
    fn a_seed_gives_the_same_schedule_every_time() {
        for seed in 0..200 {
            assert_eq!(Plan::new(seed, Broker::Hivemq, LOAD, false), Plan::new(seed, Broker::Hivemq, LOAD, false));
        }
        assert_ne!(Plan::new(1, Broker::Hivemq, LOAD, false).faults, Plan::new(2, Broker::Hivemq, LOAD, false).faults);
    }

    #[test]
    fn fifty_seeds_hold_every_kind_of_fault_and_spare_mosquitto_what_it_cannot() {
        let plans: Vec<Plan> = (1..=50).map(|seed| Plan::new(seed, Broker::Mosquitto, LOAD, false)).collect();
        let kinds: [fn(&Fault) -> bool; 12] = [
            |fault| matches!(fault, Fault::KillBridge(_)),
            |fault| matches!(fault, Fault::KillScorer(_)),
            |fault| matches!(fault, Fault::RestartBroker),
            |fault| matches!(fault, Fault::RestartKafka { kill: true }),
            |fault| matches!(fault, Fault::RestartKafka { kill: false }),
            |fault| matches!(fault, Fault::HangKafka(_)),
            |fault| matches!(fault, Fault::Regroup(_)),
            |fault| matches!(fault, Fault::Network(Link::BridgeToBroker, Trouble::Cut)),
            |fault| matches!(fault, Fault::Network(_, Trouble::HalfClose(Side::Worker))),
            |fault| matches!(fault, Fault::Network(_, Trouble::HalfClose(Side::Server))),
            |fault| matches!(fault, Fault::Network(_, Trouble::Stall(_))),
            |fault| matches!(fault, Fault::Network(_, Trouble::Delay { .. })),
        ];
        for (number, kind) in kinds.iter().enumerate() {
            assert!(plans.iter().any(|plan| plan.count(kind) > 0), "kind {number} never happens");
        }
        assert!(plans.iter().any(|plan| plan.loses_session));
        assert!(plans.iter().any(|plan| plan.filter == Filter::Shared));
        for plan in &plans {
            assert!(plan.count(|fault| matches!(fault, Fault::KillBridge(_))) > 0, "{plan}");
            assert!(plan.faults.iter().all(|planned| planned.at < LOAD), "{plan}");
            let restarts = plan.count(|fault| *fault == Fault::RestartBroker);
            assert!(plan.filter == Filter::Plain || restarts == 0, "{plan}");
        }
    }
}
