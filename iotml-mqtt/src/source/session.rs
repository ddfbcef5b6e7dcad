//! What one broker session has sent us and not yet got back: the link between positions and packet ids.

use std::collections::{HashMap, VecDeque};

use iotml_core::batch::Lane;

/// The messages in flight of one lane.
///
/// A packet id alone does not say which message came again: a broker may hand an unacknowledged message of a shared
/// subscription to another member, and then use its packet id for another message of the same session (HiveMQ does).
/// So a redelivery is recognised by the DUP flag, which MQTT 5 demands of one, by the packet id and by the content together; in
/// doubt a message is new, which can only repeat it.
#[derive(Debug)]
pub(super) struct Session {
    lane: Lane,
    /// Number of the first message in `flights`.
    first: u64,
    flights: VecDeque<Flight>,
    /// In flight since an earlier connection and not sent again yet: packet id to number.
    waiting: HashMap<u16, u64>,
    /// Became durable while it waited, so that it is acknowledged as soon as it comes again: by packet id, with its content.
    done: HashMap<u16, (PacketId, u64)>,
    /// Messages of this connection that the broker counts against our window.
    n_open: usize,
    /// Acknowledges all but the newest; see [`Session::hold_newest`].
    holds: bool,
    /// Durable, and not acknowledged because it is the newest.
    held: Option<u64>,
}

/// A packet as its acknowledgement needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PacketId {
    /// 0 for QoS 0.
    pub(super) id: u16,
    /// QoS 2: answered by PUBREC instead of PUBACK.
    pub(super) exactly_once: bool,
}

impl PacketId {
    /// A message of QoS 0, which needs no acknowledgement.
    pub(super) const NONE: Self = Self { id: 0, exactly_once: false };
}

#[derive(Debug)]
struct Flight {
    packet: PacketId,
    content: u64,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Received on this connection: an acknowledgement goes out at once.
    Open,
    /// Received on an earlier connection.
    Waiting,
    /// QoS 0, or the broker gave its packet id to another message: nothing to acknowledge.
    Void,
}

/// What a received packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receipt {
    /// A message to hand on, with its number in the lane.
    New(u64),
    /// The redelivery of a message that is still in flight, whose place it takes.
    Again,
    /// The redelivery of a message that is durable already: acknowledge it now.
    Done,
}

impl Session {
    /// A session that begins empty.
    pub(super) fn new(lane: Lane) -> Self {
        Self {
            lane,
            first: 0,
            flights: VecDeque::new(),
            waiting: HashMap::new(),
            done: HashMap::new(),
            n_open: 0,
            holds: false,
            held: None,
        }
    }

    /// The session's lane.
    pub(super) fn lane(&self) -> Lane {
        self.lane
    }

    /// How many messages of this connection are unacknowledged.
    pub(super) fn n_open(&self) -> usize {
        self.n_open
    }

    /// Whether everything received is durable. What of it is not acknowledged may come again, here or to another reader.
    pub(super) fn is_durable(&self) -> bool {
        self.flights.len() == usize::from(self.held.is_some())
    }

    /// From now on and for as long as this connection lasts, the acknowledgement of the newest message waits for the next one.
    pub(super) fn hold_newest(&mut self) {
        self.holds = true;
    }

    /// Whether all is acknowledged but the newest message, which is held back.
    pub(super) fn holds_one(&self) -> bool {
        self.held.is_some()
    }

    /// Takes in a packet; `content` is a fingerprint of all that the publisher sent, `dup` the packet's DUP flag.
    pub(super) fn receive(&mut self, packet: PacketId, dup: bool, content: u64) -> Receipt {
        if packet == PacketId::NONE {
            return self.push(packet, content, State::Void);
        }
        self.n_open += 1;
        if let Some(seq) = self.waiting.remove(&packet.id) {
            let flight = &mut self.flights[(seq - self.first) as usize];
            if dup && flight.packet == packet && flight.content == content {
                flight.state = State::Open;
                return Receipt::Again;
            }
            flight.state = State::Void;
        }
        if self.done.remove(&packet.id) == Some((packet, content)) && dup {
            return Receipt::Done;
        }
        self.push(packet, content, State::Open)
    }

    fn push(&mut self, packet: PacketId, content: u64, state: State) -> Receipt {
        self.flights.push_back(Flight { packet, content, state });
        Receipt::New(self.first + self.flights.len() as u64 - 1)
    }

    /// Everything up to `through` is durable: calls `acknowledge` with the packets to acknowledge now, in receive order.
    pub(super) fn ack(&mut self, through: u64, mut acknowledge: impl FnMut(PacketId)) {
        let newest = self.first + self.flights.len() as u64;
        let mut end = newest.min(through.saturating_add(1));
        let is_open = self.flights.back().is_some_and(|flight| flight.state == State::Open);
        let holds = self.holds && end == newest && is_open;
        self.held = holds.then(|| newest - 1);
        end -= u64::from(holds);
        while self.first < end {
            let Some(flight) = self.flights.pop_front() else { return };
            self.first += 1;
            match flight.state {
                State::Open => {
                    self.acknowledged();
                    acknowledge(flight.packet);
                }
                State::Waiting => {
                    self.waiting.remove(&flight.packet.id);
                    self.done.insert(flight.packet.id, (flight.packet, flight.content));
                }
                State::Void => {}
            }
        }
    }

    /// One packet of this connection was acknowledged.
    pub(super) fn acknowledged(&mut self) {
        self.n_open = self.n_open.saturating_sub(1);
    }

    /// The connection is gone; what is in flight waits for the session to be resumed.
    pub(super) fn disconnected(&mut self) {
        (self.n_open, self.holds) = (0, false);
        for (flight, seq) in self.flights.iter_mut().zip(self.first..) {
            if flight.state == State::Open {
                flight.state = State::Waiting;
                // A packet id stands for the message received last.
                self.waiting.insert(flight.packet.id, seq);
            }
        }
        if let Some(held) = self.held.take() {
            self.ack(held, |_| {});
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(id: u16) -> PacketId {
        PacketId { id, exactly_once: false }
    }

    fn acked(session: &mut Session, through: u64) -> Vec<u16> {
        let mut ids = Vec::new();
        session.ack(through, |packet| ids.push(packet.id));
        ids
    }

    #[test]
    fn inv_2_only_the_prefix_is_acknowledged_in_receive_order() {
        let mut session = Session::new(Lane(0));
        for (id, seq) in [(7, 0), (0, 1), (8, 2), (9, 3)] {
            assert_eq!(session.receive(packet(id), false, u64::from(id)), Receipt::New(seq));
        }
        assert_eq!(session.n_open(), 3);
        assert_eq!(acked(&mut session, 2), [7, 8]);
        assert_eq!(acked(&mut session, 2), [0u16; 0]);
        assert_eq!(acked(&mut session, 99), [9]);
        assert_eq!(session.n_open(), 0);
        assert_eq!(session.receive(packet(7), false, 1), Receipt::New(4));
    }

    #[test]
    fn inv_3_a_redelivered_packet_takes_the_place_of_the_one_in_flight() {
        let mut session = Session::new(Lane(0));
        session.receive(packet(1), false, 11);
        session.receive(packet(2), false, 22);
        session.disconnected();
        assert_eq!(session.receive(packet(1), true, 11), Receipt::Again);
        assert_eq!(session.receive(packet(2), true, 22), Receipt::Again);
        assert_eq!(session.receive(packet(3), false, 33), Receipt::New(2));
        assert_eq!(acked(&mut session, 2), [1, 2, 3]);
    }

    #[test]
    fn inv_3_what_became_durable_while_away_is_acknowledged_when_it_comes_again() {
        let mut session = Session::new(Lane(0));
        session.receive(packet(1), false, 11);
        session.receive(packet(2), false, 22);
        session.disconnected();
        assert_eq!(acked(&mut session, 0), [0u16; 0], "nothing goes out while the connection is away");
        assert_eq!(session.receive(packet(1), true, 11), Receipt::Done);
        assert_eq!(session.receive(packet(1), false, 11), Receipt::New(2), "the id is free again");
        assert_eq!(session.receive(packet(2), true, 22), Receipt::Again);
        assert_eq!(acked(&mut session, 2), [2, 1]);
    }

    #[test]
    fn inv_3_another_message_under_a_known_packet_id_is_new() {
        let mut session = Session::new(Lane(0));
        session.receive(packet(1), false, 11);
        session.receive(packet(2), false, 22);
        session.disconnected();
        acked(&mut session, 0);
        // The broker gave both ids to other messages, as HiveMQ does for shared subscriptions.
        assert_eq!(session.receive(packet(1), false, 33), Receipt::New(2));
        assert_eq!(session.receive(packet(2), false, 44), Receipt::New(3));
        assert_eq!(acked(&mut session, 1), [0u16; 0], "its packet id now belongs to another message");
        assert_eq!(acked(&mut session, 3), [1, 2]);
    }

    #[test]
    fn inv_4_a_first_delivery_under_a_known_packet_id_is_new_even_if_it_looks_the_same() {
        let mut session = Session::new(Lane(0));
        session.receive(packet(1), false, 11);
        session.receive(packet(2), false, 22);
        session.disconnected();
        // A car that sends the same payload again, under an id that the broker has given away; and one of another QoS.
        assert_eq!(session.receive(packet(1), false, 11), Receipt::New(2));
        let exactly_once = PacketId { id: 2, exactly_once: true };
        assert_eq!(session.receive(exactly_once, true, 22), Receipt::New(3));
        assert_eq!(acked(&mut session, 1), [0u16; 0], "their packet ids belong to others");
        assert_eq!(acked(&mut session, 3), [1, 2]);
    }

    #[test]
    fn inv_2_the_newest_message_is_held_until_another_one_comes() {
        let mut session = Session::new(Lane(0));
        session.receive(packet(1), false, 11);
        session.receive(packet(2), false, 22);
        session.hold_newest();
        assert!(!session.is_durable());
        assert_eq!(acked(&mut session, 0), [1]);
        assert!(!session.is_durable() && !session.holds_one());
        assert_eq!(acked(&mut session, 1), [0u16; 0]);
        assert!(session.is_durable() && session.holds_one());
        session.receive(packet(3), false, 33);
        assert!(!session.is_durable());
        assert_eq!(acked(&mut session, 2), [2]);
        assert!(session.is_durable() && session.holds_one());
        session.disconnected();
        assert!(session.is_durable() && !session.holds_one());
        assert_eq!(session.receive(packet(3), true, 33), Receipt::Done, "a broker that has it still sends it again");
        assert_eq!(session.receive(packet(4), false, 44), Receipt::New(3));
        assert_eq!(acked(&mut session, 3), [4], "nothing is held on the next connection");
    }

    #[test]
    fn inv_3_a_second_loss_of_the_connection_changes_nothing() {
        let mut session = Session::new(Lane(0));
        session.receive(packet(1), false, 11);
        session.disconnected();
        assert_eq!(session.receive(packet(1), true, 11), Receipt::Again);
        session.disconnected();
        session.disconnected();
        assert_eq!(acked(&mut session, 0), [0u16; 0]);
        assert_eq!(session.receive(packet(1), true, 11), Receipt::Done);
    }
}
