//! Cars that publish over MQTT, with a progress bar.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::{Format, Mqtt, Scenario};
use crate::mqtt::{Ledger, Load, Stream, publish};
use crate::process::{Failure, Stop, raise_open_files};
use crate::{avro, car_name, json, topic};

impl Mqtt {
    /// With the numbers of its scenario, if it names one.
    fn resolved(&self) -> Self {
        let mut mqtt = self.clone();
        match self.scenario {
            Some(Scenario::Full) => {
                mqtt.fleet.cars = 100_000;
                (mqtt.rate, mqtt.messages, mqtt.qos, mqtt.ramp_up) = (0.1, 3_000, 0, 20.0);
            }
            Some(Scenario::Small) => {
                mqtt.fleet.cars = 25;
                (mqtt.rate, mqtt.messages, mqtt.qos) = (0.2, 40, 1);
            }
            None => {}
        }
        mqtt
    }

    fn streams(&self) -> Vec<Stream> {
        let (format, messages) = (self.format, self.messages);
        let streams = self.fleet.fleet().into_cars().into_iter().map(|car| {
            let (client_id, topic) = (car_name(car.index()), topic(car.index()));
            let payloads = car.take(messages).map(move |reading| {
                let mut payload = Vec::with_capacity(512);
                match format {
                    Format::Json => json::write(&reading, &mut payload),
                    Format::Avro => avro::write_v2(&reading, &mut payload),
                }
                payload
            });
            Stream { client_id, topic, payloads: Box::new(payloads) }
        });
        streams.collect()
    }
}

/// Publishes every message of every car, or those before `stop` is asked for.
pub(super) fn publish_all(arguments: &Mqtt, stop: &Stop) -> Result<(), Failure> {
    let mqtt = arguments.resolved();
    let n_cars = mqtt.fleet.cars;
    raise_open_files(u64::from(n_cars))?;
    let load = Load {
        server: mqtt.server.clone(),
        qos: mqtt.qos,
        rate: Some(mqtt.rate),
        ramp_up: Duration::from_secs_f64(mqtt.ramp_up),
        patience: Duration::from_secs(30),
    };
    let total = u64::from(n_cars) * mqtt.messages as u64;
    let bar = ProgressBar::new(total);
    let style = "{bar:40} {pos}/{len} acknowledged, {per_sec}, {eta} to go  {msg}";
    bar.set_style(ProgressStyle::with_template(style)?);
    let ledger = Ledger::new(n_cars as usize);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let publishing = publish(mqtt.streams(), &load, ledger.clone(), stop.watch());
        let watching = async {
            loop {
                tokio::time::sleep(Duration::from_millis(250)).await;
                bar.set_position(ledger.acked());
                bar.set_message(format!("{} connected", ledger.connected()));
            }
        };
        tokio::select! {
            published = publishing => published,
            () = watching => Ok(()),
        }
    })?;
    bar.finish_and_clear();
    println!("{} of {total} messages acknowledged by the broker, from {} cars", ledger.acked(), ledger.connected());
    let owed = if stop.is_asked() { ledger.published() } else { total };
    if ledger.acked() < owed { Err("some messages were never acknowledged".into()) } else { Ok(()) }
}
