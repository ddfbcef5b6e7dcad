//! One connection: reads packets, hands messages on, and acknowledges what it is told to.

use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use iotml_core::batch::{Coordinate, Lane, LaneInfo, Position};
use iotml_core::error::Class;
use iotml_core::source::SourceEvent;
use rumqttc::{
    AsyncClient, ConnAck, ConnectionError, DisconnectProperties, DisconnectReasonCode, Event, EventLoop, ManualAck,
    MqttOptions, Outgoing, Packet, PubAck, PubRec, Publish, QoS, RetainForwardRule, SubAck, SubscribeFilter,
    SubscribeReasonCode,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::backend::{Backend, Command, LOOK, SILENCE, Shared};
use super::config::Retained;
use super::cork::Cork;
use super::handover::{hand_over, now};
use super::mapping::Mapped;
use super::session::{PacketId, Receipt, Session};
use crate::trouble::Trouble;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A filter that nobody subscribes to, to unsubscribe from.
const NEVER_SUBSCRIBED: &str = "$iotml/alive";

/// The backend that acknowledges late, on rumqttc.
pub(super) struct LateAck {
    link: Link,
    events: EventLoop,
}

impl Backend for LateAck {
    fn run(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.link.run(self.events))
    }
}

/// One connection and the state of its session.
struct Link {
    shared: Arc<Shared>,
    number: usize,
    client_id: Arc<str>,
    client: AsyncClient,
    commands: mpsc::UnboundedReceiver<Command>,
    session: Option<Session>,
    connected: bool,
    /// A sign of life is on its way out.
    is_greeting: bool,
    /// Answered when the first subscription stands, or with why it does not.
    ready: Option<oneshot::Sender<Result<(), Trouble>>>,
    closing: Option<oneshot::Sender<()>>,
    leaving: Leaving,
    /// When a message or an acknowledgement last went by.
    moved: Instant,
    mapped: Mapped,
    hasher: RandomState,
    pause: Duration,
    /// Put in for acknowledgements, so that they leave together.
    cork: Cork,
}

/// How far a connection is with taking leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// It stays.
    No,
    /// It is still subscribed, until it has something to hold back or nothing comes.
    Waiting,
    /// It wants to unsubscribe, and the broker has not confirmed it.
    Asked,
    /// The broker assigns nothing more to it, and may still have something from before.
    Unsubscribed,
    /// It cuts the connection, so that the broker gives the message that is held back to another member.
    HandingBack,
    /// The broker has nothing for it.
    Cleared,
}

impl Leaving {
    /// Whether it waits for a silence.
    fn is_looking(self) -> bool {
        matches!(self, Self::Waiting | Self::Unsubscribed)
    }
}

impl LateAck {
    /// A connection that begins when run.
    pub(super) fn new(
        shared: Arc<Shared>,
        number: usize,
        mut options: MqttOptions,
        commands: mpsc::UnboundedReceiver<Command>,
        ready: oneshot::Sender<Result<(), Trouble>>,
    ) -> Self {
        let (client_id, cork) = (options.client_id().into(), Cork::default());
        cork.fit(&mut options, shared.config.connection.connect_timeout.0);
        // Unbounded, so that handing over an acknowledgement never waits or fails; what is in flight bounds it.
        let (client, events) = AsyncClient::builder(options).unbounded().build();
        let link = Link {
            shared,
            number,
            client_id,
            client,
            commands,
            session: None,
            connected: false,
            is_greeting: false,
            ready: Some(ready),
            closing: None,
            leaving: Leaving::No,
            moved: Instant::now(),
            mapped: Mapped::default(),
            hasher: RandomState::new(),
            pause: FIRST_PAUSE,
            cork,
        };
        Self { link, events }
    }
}

impl Link {
    /// Runs until it is closed, its source is dropped, or it fails for good.
    async fn run(mut self, mut events: EventLoop) {
        loop {
            if self.wait_for_room().await.is_break() {
                return;
            }
            let step = {
                let mut poll = pin!(events.poll());
                loop {
                    tokio::select! {
                        biased;
                        command = self.commands.recv() => match command {
                            Some(command) => self.obey(command),
                            // Dropped without a close, like a kill: what is unacknowledged comes again.
                            None => return,
                        },
                        event = &mut poll => break Some(event),
                        () = sleep(LOOK), if self.leaving.is_looking() => self.look_around(),
                    }
                    if self.leaving == Leaving::HandingBack {
                        break None;
                    }
                }
            };
            let flow = match step {
                Some(Ok(event)) => self.handle(event),
                Some(Err(error)) => self.disconnected(error).await,
                None => {
                    events.clean();
                    self.handed_back()
                }
            };
            if flow.is_break() {
                break;
            }
        }
        // With it goes the connection.
        drop(events);
        self.cork.hung_up().await;
        if let Some(closed) = self.closing.take() {
            let _ = closed.send(());
        }
    }

    /// Stops reading while the inbox is full, so that TCP holds the broker back (invariant 6).
    ///
    /// The window would do, but Mosquitto 2.0.11 sends beyond it once a first message is acknowledged. Twice per keep-alive
    /// the client gives a sign of life all the same, so that the broker does not give it up (invariant 5).
    async fn wait_for_room(&mut self) -> ControlFlow<()> {
        let shared = self.shared.clone();
        let visit = Instant::now() + shared.config.connection.keep_alive.0 / 2;
        while self.closing.is_none() && !self.is_greeting && !shared.inbox.has_room() {
            tokio::select! {
                () = shared.inbox.room() => {}
                () = sleep_until(visit) => {
                    self.greet();
                    break;
                }
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return ControlFlow::Break(()),
                },
            }
        }
        ControlFlow::Continue(())
    }

    /// Sends something that changes nothing. The client's own ping would not do: its answer stands behind all that the broker
    /// has sent, and a client that asks again before it has read that gives the connection up. What is asked for here goes out
    /// before anything more is read of the socket, and its answer may come at any time.
    fn greet(&mut self) {
        self.cork.pull_out();
        self.is_greeting = self.connected && self.client.try_unsubscribe(NEVER_SUBSCRIBED).is_ok();
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Ack(lane, through) => {
                let Some(session) = self.session.as_mut().filter(|session| session.lane() == lane) else { return };
                let client = &self.client;
                self.cork.put_in();
                let mut n = 0;
                session.ack(through, |packet| {
                    acknowledge(client, packet);
                    n += 1;
                });
                self.shared.counters.acked.inc_by(n);
                self.moved = Instant::now();
            }
            Command::Leave => self.take_leave(),
            Command::Close(closed) => {
                // A connection that is away cannot say goodbye; nothing is lost by that.
                if !self.connected || self.say_goodbye().is_err() {
                    let _ = closed.send(());
                    self.commands.close();
                    return;
                }
                self.closing = Some(closed);
            }
        }
    }

    /// Asks to be unsubscribed; a member of a group only while it has a message to hold back.
    ///
    /// HiveMQ CE gives a group's backlog to a member whose last message is acknowledged, and wakes the other members only
    /// when the group's queue goes from empty to one message, or when a member's connection ends before it has acknowledged
    /// all. If who leaves had acknowledged all, the backlog would lie. So one message is held back, and handed back.
    fn take_leave(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = if self.is_member() { Leaving::Waiting } else { Leaving::Asked };
            if self.leaving == Leaving::Asked && self.connected {
                self.unsubscribe();
            }
        }
        let has_some = self.session.as_ref().is_some_and(|session| session.n_open() > 0);
        if self.leaving == Leaving::Waiting && self.connected && (has_some || self.moved.elapsed() >= SILENCE) {
            if let Some(session) = &mut self.session {
                session.hold_newest();
            }
            self.leaving = Leaving::Asked;
            self.unsubscribe();
        }
    }

    /// Whether all that it receives comes from queues that it shares with others: a queue of its own would wait, at HiveMQ, for
    /// the acknowledgement that is held back.
    fn is_member(&self) -> bool {
        self.shared.mapping.filters().iter().all(|filter| filter.starts_with("$share/"))
    }

    /// Ends the connection, and the session with it only if nothing can be lost by that.
    fn say_goodbye(&self) -> Result<(), rumqttc::ClientError> {
        self.cork.say_goodbye();
        let is_durable = self.session.as_ref().is_none_or(Session::is_durable);
        if self.leaving != Leaving::Cleared || !is_durable {
            return self.client.try_disconnect();
        }
        let properties = DisconnectProperties {
            session_expiry_interval: Some(0),
            reason_string: None,
            user_properties: Vec::new(),
            server_reference: None,
        };
        self.client.try_disconnect_with_properties(DisconnectReasonCode::NormalDisconnection, properties)
    }

    fn unsubscribe(&mut self) {
        if let Err(error) = self.client.try_unsubscribe_many(self.shared.mapping.filters()) {
            tracing::error!(%error, server = %self.shared.server, "cannot ask to be unsubscribed");
        }
    }

    /// Whether the broker has nothing more for a connection that takes leave.
    fn look_around(&mut self) {
        if self.leaving == Leaving::Waiting {
            return self.take_leave();
        }
        let is_durable = self.session.as_ref().is_none_or(Session::is_durable);
        if !self.connected || !is_durable || self.moved.elapsed() < SILENCE {
            return;
        }
        if self.session.as_ref().is_some_and(Session::holds_one) {
            self.leaving = Leaving::HandingBack;
        } else {
            self.leaving = Leaving::Cleared;
            self.shared.cleared();
        }
    }

    /// The connection is cut, and made again for what a broker may have held back until the last message was acknowledged.
    fn handed_back(&mut self) -> ControlFlow<()> {
        self.leaving = Leaving::Unsubscribed;
        (self.connected, self.is_greeting) = (false, false);
        if let Some(session) = &mut self.session {
            session.disconnected();
        }
        ControlFlow::Continue(())
    }

    fn handle(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Incoming(Packet::ConnAck(connack)) => self.connected(&connack),
            Event::Incoming(Packet::SubAck(suback)) => return self.subscribed(&suback),
            Event::Outgoing(Outgoing::Unsubscribe(_)) => self.is_greeting = false,
            Event::Incoming(Packet::UnsubAck(_)) if self.leaving == Leaving::Asked => {
                (self.leaving, self.moved) = (Leaving::Unsubscribed, Instant::now());
            }
            Event::Incoming(Packet::Publish(publish)) => {
                self.moved = Instant::now();
                self.receive(&publish);
                if self.leaving == Leaving::Waiting {
                    self.take_leave();
                }
            }
            Event::Outgoing(Outgoing::Disconnect) => return ControlFlow::Break(()),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn connected(&mut self, connack: &ConnAck) {
        self.connected = true;
        if !connack.session_present || self.session.is_none() {
            self.begin_session();
        }
        self.moved = Instant::now();
        if self.leaving == Leaving::Waiting {
            // What was in flight has gone back to the group, which is what a message held back is for.
            self.leaving = Leaving::Asked;
        }
        if self.leaving != Leaving::No {
            return self.unsubscribe();
        }
        // Also on a resumed session: Mosquitto forgets shared subscriptions in a restart until they are made again.
        let filters = self.shared.mapping.filters().iter().zip(&self.shared.config.topics).map(|(filter, topic)| {
            let mut filter = SubscribeFilter::new(filter, qos(topic.qos));
            filter.preserve_retain = true;
            filter.retain_forward_rule = match self.shared.config.retained {
                Retained::New => RetainForwardRule::OnNewSubscribe,
                Retained::Always => RetainForwardRule::OnEverySubscribe,
                Retained::Never => RetainForwardRule::Never,
            };
            filter
        });
        if let Err(error) = self.client.try_subscribe_many(filters) {
            tracing::error!(%error, server = %self.shared.server, "cannot ask for subscriptions");
        }
    }

    /// The broker begins a new session: what was in flight of the one before is void.
    fn begin_session(&mut self) {
        if let Some(lost) = self.session.take() {
            self.shared.counters.lost_sessions.inc();
            let reason = format!("{} no longer has the session; messages it held are gone", self.shared.server);
            tracing::warn!(connection = self.number, "{reason}");
            self.shared.inbox.push_event(SourceEvent::Lost { lanes: vec![lost.lane()], reason });
        }
        let lane = Lane(self.shared.next_lane.fetch_add(1, Ordering::Relaxed));
        self.shared.lanes[self.number].store(lane.0, Ordering::Release);
        self.shared.inbox.push_event(SourceEvent::Assigned(vec![LaneInfo { lane, partition: self.client_id.clone() }]));
        self.session = Some(Session::new(lane));
    }

    fn subscribed(&mut self, suback: &SubAck) -> ControlFlow<()> {
        let filters = self.shared.mapping.filters();
        for ((code, filter), topic) in suback.return_codes.iter().zip(filters).zip(&self.shared.config.topics) {
            match *code {
                SubscribeReasonCode::Success(granted) if granted == qos(topic.qos) => {}
                SubscribeReasonCode::Success(granted) => {
                    tracing::warn!(%filter, ?granted, asked = topic.qos, "the broker granted a lower qos");
                }
                code => return self.fail(Trouble::not_subscribed(&self.shared.server, filter, code)),
            }
        }
        self.pause = FIRST_PAUSE;
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(Ok(()));
        }
        ControlFlow::Continue(())
    }

    fn receive(&mut self, publish: &Publish) {
        let Some(session) = &mut self.session else { return };
        let shared = &*self.shared;
        let (packet, content) = if publish.qos == QoS::AtMostOnce {
            if !shared.inbox.has_room_for_qos0() {
                shared.counters.dropped.inc();
                return;
            }
            (PacketId::NONE, 0)
        } else {
            let exactly_once = publish.qos == QoS::ExactlyOnce;
            (PacketId { id: publish.pkid, exactly_once }, self.hasher.hash_one(Sent::of(publish)))
        };
        let seq = match session.receive(packet, publish.dup, content) {
            Receipt::New(seq) => seq,
            Receipt::Again => {
                shared.counters.redelivered.inc();
                return;
            }
            Receipt::Done => {
                shared.counters.redelivered.inc();
                shared.counters.acked.inc();
                acknowledge(&self.client, packet);
                session.acknowledged();
                return;
            }
        };
        shared.counters.received.inc();
        let position = Position { lane: session.lane(), seq };
        let coordinate = Coordinate { partition: self.number as i32, offset: i64::from(packet.id) };
        hand_over(shared, &mut self.mapped, publish, now(), position, coordinate);
        if session.n_open() >= usize::from(shared.config.receive_maximum) {
            shared.inbox.flush();
        }
    }

    async fn disconnected(&mut self, error: ConnectionError) -> ControlFlow<()> {
        let was_connected = std::mem::take(&mut self.connected);
        self.is_greeting = false;
        if let Some(session) = &mut self.session {
            session.disconnected();
        }
        if self.closing.is_some() || matches!(error, ConnectionError::RequestsDone) {
            return ControlFlow::Break(());
        }
        let trouble = Trouble::from_client(&self.shared.server, error);
        // A source that never stood reports at once; later it tries again as long as that can help.
        if trouble.class == Class::Fatal || self.ready.is_some() {
            return self.fail(trouble);
        }
        if was_connected {
            self.shared.counters.reconnects.inc();
        }
        tracing::warn!(connection = self.number, pause = ?self.pause, "{trouble}");
        let until = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        loop {
            tokio::select! {
                () = sleep_until(until) => return ControlFlow::Continue(()),
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return ControlFlow::Break(()),
                },
            }
        }
    }

    fn fail(&mut self, trouble: Trouble) -> ControlFlow<()> {
        match self.ready.take() {
            Some(ready) => {
                let _ = ready.send(Err(trouble));
            }
            None => self.shared.inbox.fail(trouble.into_source_error()),
        }
        ControlFlow::Break(())
    }
}

/// What the publisher sent, by which two messages differ; not what the broker adds, such as what is left of an expiry, which
/// changes from one delivery to the next.
#[derive(Hash)]
struct Sent<'a> {
    topic: &'a [u8],
    payload: &'a [u8],
    user_properties: &'a [(String, String)],
    content_type: Option<&'a str>,
    response_topic: Option<&'a str>,
    correlation_data: Option<&'a [u8]>,
}

impl<'a> Sent<'a> {
    fn of(publish: &'a Publish) -> Self {
        let properties = publish.properties.as_ref();
        Self {
            topic: &publish.topic,
            payload: &publish.payload,
            user_properties: properties.map_or(&[], |properties| &properties.user_properties),
            content_type: properties.and_then(|properties| properties.content_type.as_deref()),
            response_topic: properties.and_then(|properties| properties.response_topic.as_deref()),
            correlation_data: properties.and_then(|properties| properties.correlation_data.as_deref()),
        }
    }
}

/// Hands an acknowledgement to the client.
fn acknowledge(client: &AsyncClient, packet: PacketId) {
    let answer = if packet.exactly_once {
        ManualAck::PubRec(PubRec::new(packet.id, None))
    } else {
        ManualAck::PubAck(PubAck::new(packet.id, None))
    };
    if let Err(error) = client.try_manual_ack(answer) {
        // The channel is unbounded, so this means that the client is gone; the message comes again.
        tracing::debug!(%error, packet = packet.id, "an acknowledgement could not be sent");
    }
}

fn qos(level: u8) -> QoS {
    match level {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

#[cfg(test)]
mod tests {
    use rumqttc::PublishProperties;

    use super::*;

    #[test]
    fn inv_4_messages_that_differ_in_what_was_sent_differ_and_redeliveries_do_not() {
        let hasher = RandomState::new();
        let of = |properties| hasher.hash_one(Sent::of(&Publish::new("a", QoS::AtLeastOnce, "x", Some(properties))));
        let plain = PublishProperties::default();
        let user = |value: &str| PublishProperties {
            user_properties: vec![("trip".into(), value.into())],
            ..PublishProperties::default()
        };
        let correlated = |data| PublishProperties { correlation_data: Some(data), ..PublishProperties::default() };
        let all =
            [of(plain.clone()), of(user("1")), of(user("2")), of(correlated("1".into())), of(correlated("2".into()))];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        let later = PublishProperties { message_expiry_interval: Some(7), topic_alias: Some(1), ..plain.clone() };
        assert_eq!(of(later), of(plain));
    }
}
