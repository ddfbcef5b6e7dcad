//! A device: publishes and waits until the broker has everything.

use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet, PublishOptions, PublishProperties, QoS};
use tokio::sync::mpsc;

use crate::broker::unique;

const PATIENCE: Duration = Duration::from_secs(30);

pub struct Publisher {
    client: AsyncClient,
    /// One for each publish the broker has.
    stored: mpsc::UnboundedReceiver<()>,
}

impl Publisher {
    pub async fn connect(address: &str) -> Self {
        let (host, port) = address.rsplit_once(':').expect("host:port");
        let mut options = MqttOptions::new(unique("publisher"), (host, port.parse().expect("a port")));
        let mut network = options.network_options();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        options.set_connect_timeout(PATIENCE);
        // The client keeps room for as many unacknowledged packets, and by default that is 16 MB per connection.
        options.set_outgoing_inflight_upper_limit(100);
        let (client, mut events) = AsyncClient::builder(options).capacity(1_000).build();
        let (tell, stored) = mpsc::unbounded_channel();
        while !matches!(events.poll().await.expect("the publisher connects"), Event::Incoming(Packet::ConnAck(_))) {}
        tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)))
                    | Ok(Event::Outgoing(Outgoing::Publish(0))) => {
                        if tell.send(()).is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        });
        Self { client, stored }
    }

    pub async fn publish(&mut self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.publish_all(topic, [payload.into()]).await;
    }

    pub async fn publish_all(&mut self, topic: &str, payloads: impl IntoIterator<Item = Vec<u8>>) {
        let mut n = 0;
        for payload in payloads {
            self.client.publish(topic, payload, PublishOptions::new(QoS::AtLeastOnce)).await.expect("publish");
            n += 1;
        }
        self.wait(n).await;
    }

    pub async fn publish_with(
        &mut self,
        topic: &str,
        payload: Vec<u8>,
        qos: QoS,
        retain: bool,
        properties: PublishProperties,
    ) {
        let options = PublishOptions::new(qos).retain(retain).properties(properties);
        self.client.publish(topic, payload, options).await.expect("publish");
        self.wait(1).await;
    }

    async fn wait(&mut self, n: usize) {
        for _ in 0..n {
            let stored = tokio::time::timeout(PATIENCE, self.stored.recv()).await;
            stored.expect("the broker takes what is published").expect("the publisher is connected");
        }
    }
}

/// Numbered payloads.
pub fn numbered(numbers: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    numbers.map(|number| format!("message {number:05}").into_bytes()).collect()
}
