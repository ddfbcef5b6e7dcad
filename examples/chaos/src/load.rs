//! What the cars publish.

use std::collections::HashSet;
use std::ops::Range;

use cars::mqtt::Stream;
use cars::{Fleet, FleetConfig, car_name, json};

use crate::check::Row;

/// One message in so many is cut short, so that it cannot be decoded.
const POISON_EVERY: u64 = 97;

/// Cars `cars`, each with so many messages; `run` is the first level of their topics and stands in their client ids.
pub fn streams(run: &str, cars: Range<u32>, n_messages: u64, seed: u64) -> Vec<Stream> {
    let fleet = Fleet::new(&FleetConfig { seed, n_cars: cars.len() as u32, ..FleetConfig::default() });
    let streams = fleet.into_cars().into_iter().zip(cars).map(|(readings, car)| {
        let payloads = (0..n_messages).zip(readings).map(move |(seq, reading)| {
            let mut payload = Vec::with_capacity(512);
            json::write(&reading, &mut payload);
            if is_poison(Row { car, seq }) {
                payload.truncate(payload.len() / 2);
            }
            payload
        });
        let name = car_name(car);
        Stream { client_id: format!("{run}-{name}"), topic: format!("{run}/{name}"), payloads: Box::new(payloads) }
    });
    streams.collect()
}

/// The messages of these cars that cannot be decoded.
pub fn poison(cars: Range<u32>, n_messages: u64) -> HashSet<Row> {
    let all = cars.flat_map(|car| (0..n_messages).map(move |seq| Row { car, seq }));
    all.filter(|row| is_poison(*row)).collect()
}

fn is_poison(row: Row) -> bool {
    (u64::from(row.car) * 31 + row.seq) % POISON_EVERY == POISON_EVERY - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poison_is_what_does_not_parse() {
        let poison = poison(3..5, 300);
        for (stream, car) in streams("run", 3..5, 300, 1).into_iter().zip(3..) {
            for (payload, seq) in stream.payloads.zip(0..) {
                let parses = serde_json::from_slice::<serde_json::Value>(&payload).is_ok();
                assert_eq!(parses, !poison.contains(&Row { car, seq }));
            }
        }
        assert_eq!(poison.len(), 7);
    }
}
