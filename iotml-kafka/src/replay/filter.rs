//! Which dead letters are meant.

use std::fmt;
use std::str::FromStr;

use iotml_core::cli::clap::{self, Args};
use iotml_core::cli::time;
use iotml_core::pipeline::header;

use super::letter::Letter;

/// Conditions on dead letters: all must hold, and of a condition that is given several times one.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Which dead letters; without a condition all")]
pub(super) struct Filter {
    /// The reason, such as unknown_schema_id
    #[arg(long, value_name = "WORD")]
    pub reason: Vec<String>,
    /// The stage that rejected the row, such as decode
    #[arg(long, value_name = "STAGE")]
    pub stage: Vec<String>,
    /// The pipeline that wrote it; with CONFIG it is that one
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    pub pipeline: Vec<String>,
    /// The topic that the message came from
    #[arg(long, value_name = "TOPIC")]
    pub origin: Vec<String>,
    /// The key of the message
    #[arg(long, value_name = "TEXT")]
    pub key: Vec<String>,
    /// The oldest time of the message: 2026-01-31T12:00:00Z, or milliseconds since the Unix epoch
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<i64>,
    /// The first time that is too young
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<i64>,
    /// Where it lies in the topic of the dead letters: 0:100-199, the last offset included
    #[arg(long, value_name = "PARTITION:FROM-TO")]
    pub offsets: Vec<Offsets>,
}

/// Offsets of one partition, from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offsets {
    partition: i32,
    first: i64,
    last: i64,
}

impl Filter {
    pub fn matches(&self, letter: &Letter<'_>) -> bool {
        let one_of = |wanted: &[String], found: Option<&str>| {
            wanted.is_empty() || found.is_some_and(|found| wanted.iter().any(|wanted| wanted == found))
        };
        let key_fits = || self.key.iter().any(|wanted| letter.key() == Some(wanted.as_bytes()));
        let in_time = |holds: &dyn Fn(i64) -> bool| letter.time().is_some_and(holds);
        one_of(&self.reason, letter.reason().as_deref())
            && one_of(&self.stage, letter.text(header::STAGE).as_deref())
            && one_of(&self.pipeline, letter.text(header::CONNECTOR).as_deref())
            && one_of(&self.origin, letter.origin().as_deref())
            && (self.key.is_empty() || key_fits())
            && self.since.is_none_or(|since| in_time(&|time| time >= since))
            && self.until.is_none_or(|until| in_time(&|time| time < until))
            && (self.offsets.is_empty() || self.offsets.iter().any(|offsets| offsets.hold(letter)))
    }
}

impl fmt::Display for Filter {
    /// The conditions in a fixed order, as a part of a name; nothing where there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("reason", &self.reason),
            ("stage", &self.stage),
            ("pipeline", &self.pipeline),
            ("origin", &self.origin),
            ("key", &self.key),
        ];
        for (name, list) in lists {
            let mut sorted: Vec<_> = list.iter().collect();
            sorted.sort();
            sorted.dedup();
            sorted.into_iter().try_for_each(|value| write!(f, "/{name}={value}"))?;
        }
        for (name, time) in [("since", self.since), ("until", self.until)] {
            time.map_or(Ok(()), |time| write!(f, "/{name}={time}"))?;
        }
        self.offsets.iter().try_for_each(|it| write!(f, "/offsets={}:{}-{}", it.partition, it.first, it.last))
    }
}

impl Offsets {
    fn hold(&self, letter: &Letter<'_>) -> bool {
        letter.place.partition == self.partition && (self.first..=self.last).contains(&letter.place.offset)
    }
}

impl FromStr for Offsets {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (partition, range) = text.split_once(':')?;
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let offsets =
                Self { partition: partition.parse().ok()?, first: first.parse().ok()?, last: last.parse().ok()? };
            (offsets.first <= offsets.last).then_some(offsets)
        };
        parse().ok_or_else(|| "write it like 0:100-199, or 0:100 for a single one".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use iotml_core::batch::{Lane, Message, Position, RawBatch, RawMessage};

    use super::*;

    fn letter() -> RawBatch {
        let mut raw = RawBatch::default();
        raw.push(RawMessage {
            message: Message { payload: Some(b"x"), key: Some(b"car-1"), time: Some(1_000), ..Message::default() },
            position: Position { lane: Lane(0), seq: 0 },
            coordinate: iotml_core::batch::Coordinate { partition: 2, offset: 150 },
        });
        for (name, value) in [
            (header::TOPIC, "sensor-data"),
            (header::CONNECTOR, "score"),
            (header::STAGE, "decode"),
            (header::REASON, "malformed"),
        ] {
            raw.push_header(name, Some(value.as_bytes()));
        }
        raw
    }

    #[test]
    fn every_condition_must_hold_and_of_one_given_twice_either() {
        let raw = letter();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        type Change = fn(&mut Filter, Vec<String>);
        let lists: [(&str, Change); 5] = [
            ("malformed", |filter, list| filter.reason = list),
            ("decode", |filter, list| filter.stage = list),
            ("score", |filter, list| filter.pipeline = list),
            ("sensor-data", |filter, list| filter.origin = list),
            ("car-1", |filter, list| filter.key = list),
        ];
        let fits = |filter: &Filter| filter.matches(&Letter::of(&raw, 0));
        assert!(fits(&Filter::default()));
        for (right, change) in lists {
            let mut filter = Filter::default();
            change(&mut filter, words(&["other", right]));
            assert!(fits(&filter), "{filter:?}");
            change(&mut filter, words(&["other"]));
            assert!(!fits(&filter), "{filter:?}");
        }
        let times = |since, until| Filter { since, until, ..Filter::default() };
        assert!(fits(&times(Some(1_000), Some(1_001))));
        assert!(!fits(&times(Some(1_001), None)) && !fits(&times(None, Some(1_000))));
        let offsets = |text: &str| Filter { offsets: vec![text.parse().unwrap()], ..Filter::default() };
        assert!(fits(&offsets("2:100-150")) && fits(&offsets("2:150")));
        assert!(!fits(&offsets("2:151-200")) && !fits(&offsets("1:100-200")));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for wrong in ["5", "0:9-1", "0:a", ":1"] {
            assert!(wrong.parse::<Offsets>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_same_conditions_have_the_same_name() {
        let filter = |reason: &[&str]| Filter {
            reason: reason.iter().map(|word| (*word).to_owned()).collect(),
            since: Some(5),
            ..Filter::default()
        };
        assert_eq!(filter(&["b", "a"]).to_string(), "/reason=a/reason=b/since=5");
        assert_eq!(filter(&["b", "a"]).to_string(), filter(&["a", "b", "a"]).to_string());
        assert_eq!(Filter::default().to_string(), "");
    }
}
