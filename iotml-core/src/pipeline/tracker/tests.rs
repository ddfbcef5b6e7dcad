//! The tracker, in every order and against a model.

use proptest::prelude::*;

use super::*;
use crate::batch::{Coordinate, Message, Position, RawMessage};

fn raw(positions: &[(u32, u64)]) -> Arc<RawBatch> {
    let mut raw = RawBatch::default();
    for (lane, seq) in positions {
        raw.push(RawMessage {
            message: Message { payload: Some(b"x"), ..Message::default() },
            position: Position { lane: Lane(*lane), seq: *seq },
            coordinate: Coordinate::NONE,
        });
    }
    Arc::new(raw)
}

fn tracker(lanes: u32) -> Tracker {
    let mut tracker = Tracker::default();
    (0..lanes).for_each(|lane| tracker.assign(Lane(lane)));
    tracker
}

#[test]
fn inv_2_only_the_contiguous_prefix_is_acknowledged() {
    let mut tracker = tracker(1);
    let id = tracker.receive(raw(&[(0, 0), (0, 1), (0, 2)]), Instant::now()).unwrap();
    tracker.open(id, 0..3);
    tracker.decide(id);
    tracker.done(id, [2], Outcome::Delivered);
    assert_eq!(tracker.take_acks(), []);
    tracker.done(id, [0], Outcome::Delivered);
    assert_eq!(tracker.take_acks(), [Ack { lane: Lane(0), through: 0 }]);
    tracker.done(id, [1], Outcome::DeadLettered);
    assert_eq!(tracker.take_acks(), [Ack { lane: Lane(0), through: 2 }]);
    assert!(tracker.batches.is_empty() && tracker.n_bytes() == 0);
}

#[test]
fn inv_3_a_lost_lane_is_never_acknowledged_and_still_counted() {
    let mut tracker = tracker(2);
    let id = tracker.receive(raw(&[(0, 0), (1, 0)]), Instant::now()).unwrap();
    tracker.open(id, 0..2);
    tracker.grow(id, 1_000_000);
    assert!(tracker.n_bytes() > 1_000_000);
    tracker.decide(id);
    tracker.drop_lane(Lane(0));
    tracker.done(id, 0..2, Outcome::Delivered);
    assert_eq!(tracker.take_acks(), [Ack { lane: Lane(1), through: 0 }]);
    assert_eq!(tracker.audit(), Audit { received: 2, delivered: 2, ..Audit::default() });
    assert_eq!(tracker.n_bytes(), 0);
}

#[test]
fn inv_9_a_cut_covers_whole_batches_and_what_is_done_counts_when_it_is_committed() {
    let mut tracker = Tracker { uncommitted: Some(Vec::new()), ..tracker(2) };
    let ids = [&[(0, 0), (1, 0)][..], &[(0, 1)], &[(0, 2), (1, 1)]]
        .map(|positions| tracker.receive(raw(positions), Instant::now()).unwrap());
    let cut = tracker.cut(Some(ids[1]));
    let mut acks = cut.acks.clone();
    acks.sort_by_key(|ack| ack.lane.0);
    assert_eq!(acks, [Ack { lane: Lane(0), through: 0 }, Ack { lane: Lane(1), through: 0 }]);
    tracker.done(ids[2], 0..2, Outcome::Delivered);
    assert!(!tracker.is_settled(&cut));
    tracker.done(ids[0], 0..2, Outcome::Delivered);
    assert!(tracker.is_settled(&cut) && tracker.n_rows() == 1);
    assert_eq!(tracker.audit(), Audit { received: 5, in_flight: 5, ..Audit::default() });
    tracker.committed(&cut);
    assert_eq!(tracker.audit(), Audit { received: 5, delivered: 2, in_flight: 3, ..Audit::default() });
    assert!(!tracker.is_committed(&[Lane(1)]), "what came behind the cut is not");
    let all = tracker.cut(None);
    assert_eq!(all.acks.iter().map(|ack| ack.through).max(), Some(2));
    tracker.void();
    let audit = Audit { received: 5, delivered: 2, returned: 3, ..Audit::default() };
    assert_eq!((tracker.audit(), tracker.n_bytes(), tracker.n_rows()), (audit, 0, 0));
    assert!(tracker.batches.is_empty() && audit.balances());
    tracker.done(ids[1], [0], Outcome::Delivered);
    assert_eq!(tracker.audit(), audit, "a late result of what is void counts nothing");
}

#[test]
fn a_hole_in_a_lane_is_refused() {
    let mut tracker = tracker(1);
    assert!(tracker.receive(raw(&[(0, 1)]), Instant::now()).unwrap_err().contains("1 instead of 0"));
    assert!(tracker.receive(raw(&[(7, 0)]), Instant::now()).unwrap_err().contains("not assigned"));
}

proptest! {
    /// Whatever the order in which results come in: never beyond the first open row, in the end everything, and at
    /// every step received = delivered + dead-lettered + filtered + skipped + in flight.
    #[test]
    fn inv_2_and_4_hold_in_every_order(
        rows in prop::collection::vec((0u32..3, 0u16..3, 0u8..3), 1..60),
        shuffle in any::<prop::sample::Index>(),
        seed in any::<u64>(),
    ) {
        let mut tracker = tracker(3);
        let mut next = [0u64; 3];
        let positions: Vec<_> = rows.iter().map(|(lane, ..)| {
            let seq = next[*lane as usize];
            next[*lane as usize] += 1;
            (*lane, seq)
        }).collect();
        let mut ids = Vec::new();
        for chunk in positions.chunks(1 + shuffle.index(10)) {
            ids.push((tracker.receive(raw(chunk), Instant::now()).unwrap(), chunk.len()));
        }
        let mut results = Vec::new();
        let mut open: HashMap<(u32, u64), u16> = HashMap::new();
        let mut at = 0;
        for (id, len) in ids {
            for row in 0..len {
                let (_, routes, kind) = rows[at];
                open.insert(positions[at], routes);
                for _ in 0..routes {
                    tracker.open(id, [row]);
                    let outcome = [Outcome::Delivered, Outcome::Skipped, Outcome::DeadLettered][kind as usize];
                    results.push((id, row, positions[at], outcome));
                }
                at += 1;
            }
            tracker.decide(id);
        }
        // A fixed linear congruence shuffles without another dependency.
        let mut state = seed | 1;
        for i in (1..results.len()).rev() {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            results.swap(i, (state >> 33) as usize % (i + 1));
        }
        let mut acked = [0u64; 3];
        for (id, row, position, outcome) in results {
            tracker.done(id, [row], outcome);
            *open.get_mut(&position).unwrap() -= 1;
            for ack in tracker.take_acks() {
                acked[ack.lane.0 as usize] = ack.through + 1;
                for seq in 0..=ack.through {
                    prop_assert_eq!(open[&(ack.lane.0, seq)], 0);
                }
            }
            let audit = tracker.audit();
            prop_assert_eq!(audit.received, audit.accounted());
        }
        tracker.take_acks().iter().for_each(|ack| acked[ack.lane.0 as usize] = ack.through + 1);
        prop_assert_eq!(acked, next);
        prop_assert!(tracker.batches.is_empty() && tracker.n_bytes() == 0 && tracker.n_rows() == 0);
    }
}

/// Calls `each` with every order of `0..n`.
fn orders(n: usize, each: &mut impl FnMut(&[usize])) {
    fn go(rest: &mut Vec<usize>, order: &mut Vec<usize>, each: &mut impl FnMut(&[usize])) {
        if rest.is_empty() {
            return each(order);
        }
        for at in 0..rest.len() {
            order.push(rest.remove(at));
            go(rest, order, each);
            rest.extend(order.pop());
            rest.sort_unstable();
        }
    }
    go(&mut (0..n).collect(), &mut Vec::new(), each);
}

/// Six results of four rows on two lanes, in all 720 orders, and a lane that is lost before any one of them, or not at all.
#[test]
fn inv_2_3_and_4_hold_in_every_order_with_a_lane_lost_at_every_moment() {
    let positions = [(0, 0), (1, 0), (0, 1), (1, 1)];
    let results = [0, 1, 1, 2, 3, 3];
    let mut n_cases = 0;
    orders(results.len(), &mut |order| {
        let lanes = [None, Some(Lane(0)), Some(Lane(1))];
        for (lost, moment) in lanes.into_iter().flat_map(|lost| (0..7).map(move |at| (lost, at))) {
            n_cases += 1;
            let mut tracker = tracker(2);
            let id = tracker.receive(raw(&positions), Instant::now()).unwrap();
            results.iter().for_each(|row| tracker.open(id, [*row]));
            tracker.decide(id);
            let mut open = [1, 2, 1, 2];
            let mut acked = [0, 0];
            for (step, result) in order.iter().enumerate() {
                if step == moment {
                    lost.iter().for_each(|lane| tracker.drop_lane(*lane));
                }
                let row = results[*result];
                tracker.done(id, [row], Outcome::Delivered);
                open[row] -= 1;
                for ack in tracker.take_acks() {
                    assert!(lost != Some(ack.lane) || step < moment, "a lost lane is acknowledged");
                    acked[ack.lane.0 as usize] = ack.through + 1;
                }
                for lane in (0..2).filter(|lane| lost != Some(Lane(*lane as u32)) || step < moment) {
                    let prefix = (0..2).take_while(|seq| open[seq * 2 + lane] == 0).count() as u64;
                    assert_eq!(acked[lane], prefix, "exactly the prefix, at once");
                }
                assert_eq!(tracker.audit().received, tracker.audit().accounted());
            }
            assert_eq!(tracker.audit(), Audit { received: 4, delivered: 4, ..Audit::default() });
            assert!(tracker.batches.is_empty() && tracker.n_bytes() == 0);
        }
    });
    assert_eq!(n_cases, 720 * 21);
}

/// What a model knows of a lane.
#[derive(Debug, Default)]
struct Seen {
    /// Results still open, by number.
    open: Vec<u16>,
    acked: u64,
    is_lost: bool,
}

proptest! {
    /// Batches that mix lanes, results in any order, lanes that are lost and begun again (with their messages received once more),
    /// and rows that no route wants: against a model that knows no batches.
    #[test]
    fn inv_2_3_and_4_hold_when_lanes_come_and_go(steps in prop::collection::vec((0u8..6, any::<u16>()), 1..120)) {
        let mut tracker = Tracker::default();
        let mut seen: HashMap<Lane, Seen> = HashMap::new();
        let mut live: Vec<Lane> = Vec::new();
        let mut waiting: Vec<(BatchId, usize, Lane, u64)> = Vec::new();
        let (mut next_lane, mut received) = (0, 0);
        for (kind, choice) in steps {
            let choice = usize::from(choice);
            match kind {
                0 => {
                    live.push(Lane(next_lane));
                    tracker.assign(Lane(next_lane));
                    seen.insert(Lane(next_lane), Seen::default());
                    next_lane += 1;
                }
                1 if !live.is_empty() => {
                    let lost = live.swap_remove(choice % live.len());
                    seen.get_mut(&lost).unwrap().is_lost = true;
                    tracker.drop_lane(lost);
                }
                2 | 3 if !live.is_empty() => {
                    let rows: Vec<(Lane, u64)> = (0..1 + choice % 7).map(|n| {
                        let lane = live[(choice / 7 + n / 2) % live.len()];
                        let lane_seen = seen.get_mut(&lane).unwrap();
                        lane_seen.open.push(0);
                        (lane, lane_seen.open.len() as u64 - 1)
                    }).collect();
                    received += rows.len() as u64;
                    let positions: Vec<_> = rows.iter().map(|(lane, seq)| (lane.0, *seq)).collect();
                    let id = tracker.receive(raw(&positions), Instant::now()).unwrap();
                    for (row, (lane, seq)) in rows.iter().enumerate() {
                        for _ in 0..(choice + row) % 3 {
                            tracker.open(id, [row]);
                            seen.get_mut(lane).unwrap().open[*seq as usize] += 1;
                            waiting.push((id, row, *lane, *seq));
                        }
                    }
                    tracker.decide(id);
                }
                _ if !waiting.is_empty() => {
                    let (id, row, lane, seq) = waiting.swap_remove(choice % waiting.len());
                    let outcome = [Outcome::Delivered, Outcome::Skipped, Outcome::DeadLettered][choice % 3];
                    tracker.done(id, [row], outcome);
                    seen.get_mut(&lane).unwrap().open[seq as usize] -= 1;
                }
                _ => {}
            }
            for ack in tracker.take_acks() {
                let lane = seen.get_mut(&ack.lane).unwrap();
                prop_assert!(!lane.is_lost, "a lost lane is acknowledged");
                prop_assert!(ack.through + 1 > lane.acked, "an acknowledgement goes backwards");
                lane.acked = ack.through + 1;
            }
            for lane in &live {
                let lane = &seen[lane];
                let prefix = lane.open.iter().take_while(|open| **open == 0).count() as u64;
                prop_assert_eq!(lane.acked, prefix, "exactly the prefix, at once");
            }
            let all_done = |lane: &Lane| seen[lane].open.iter().all(|open| *open == 0);
            prop_assert_eq!(tracker.is_drained(&live), live.iter().all(all_done));
            let in_flight = seen.values().flat_map(|lane| &lane.open).filter(|open| **open > 0).count();
            prop_assert_eq!(tracker.n_rows(), in_flight, "rows of lost lanes count until they are done");
            let audit = tracker.audit();
            prop_assert_eq!((audit.received, audit.received), (received, audit.accounted()));
            prop_assert_eq!(tracker.batches.is_empty(), waiting.is_empty());
            prop_assert_eq!(tracker.n_bytes() == 0, waiting.is_empty());
        }
    }
}
