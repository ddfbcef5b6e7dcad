//! A bounded table of windows that forgets the keys not seen for the longest time.

use std::collections::HashMap;

type Map = HashMap<Box<[u8]>, Vec<f32>>;

/// Windows by key in two generations.
///
/// A key that is seen moves to the young generation. When that holds half of the bound, the old one is dropped and the young
/// one becomes old: the bound holds, and a key is dropped only after at least half of the bound of other keys was seen.
#[derive(Debug, Clone)]
pub(super) struct Table {
    young: Map,
    old: Map,
    half: usize,
}

impl Table {
    pub(super) fn new(max_keys: usize) -> Self {
        Table { young: HashMap::new(), old: HashMap::new(), half: (max_keys / 2).max(1) }
    }

    /// The window of `key`, empty if the key is new or was dropped.
    pub(super) fn window(&mut self, key: &[u8]) -> &mut Vec<f32> {
        // Looked up first, since a map's entry wants an owned key, and most keys are there.
        if !self.young.contains_key(key) {
            let (key, window) = self.old.remove_entry(key).unwrap_or_else(|| (key.into(), Vec::new()));
            self.insert(key, window);
        }
        #[expect(clippy::expect_used, reason = "a key that was not there was put in just above")]
        self.young.get_mut(key).expect("the key's window")
    }

    /// Puts a window in, as the key seen last.
    pub(super) fn insert(&mut self, key: Box<[u8]>, window: Vec<f32>) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, window);
    }

    /// Takes out the windows of the keys that do not stay.
    pub(super) fn give_up(&mut self, stays: impl Fn(&[u8]) -> bool) -> Table {
        let leave = |windows: &mut Map| windows.extract_if(|key, _| !stays(key)).collect();
        Table { young: leave(&mut self.young), old: leave(&mut self.old), half: self.half }
    }

    /// Takes over what `given` has of the keys that are wanted, each in its generation, the younger ones first where there is no
    /// room for all. Where both have a key, the window that is given stays if it `replaces`.
    pub(super) fn take_over(&mut self, given: &mut Table, is_wanted: impl Fn(&[u8]) -> bool, replaces: bool) {
        let Table { young, old, half } = self;
        let has_room = |windows: &Map| windows.len() < *half;
        for (is_young, windows) in [(true, &mut given.young), (false, &mut given.old)] {
            for (key, window) in windows.extract_if(|key, _| is_wanted(key)) {
                let known = young.get_mut(&key).or_else(|| old.get_mut(&key));
                if let Some(known) = known {
                    if replaces {
                        *known = window;
                    }
                } else if is_young && has_room(young) {
                    young.insert(key, window);
                } else if has_room(old) {
                    old.insert(key, window);
                }
            }
        }
    }

    /// All windows, older generation first.
    pub(super) fn generations(&self) -> [impl Iterator<Item = (&[u8], &[f32])>; 2] {
        [&self.old, &self.young].map(|windows| windows.iter().map(|(key, window)| (key.as_ref(), window.as_slice())))
    }

    pub(super) fn len(&self) -> usize {
        self.old.len() + self.young.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(table: &Table) -> Vec<u8> {
        let mut keys: Vec<u8> = table.generations().into_iter().flatten().map(|(key, _)| key[0]).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn inv_6_what_is_taken_over_stays_within_the_bound_and_is_what_was_seen_last() {
        let (mut old, mut new) = (Table::new(10), Table::new(10));
        (0..8).for_each(|number| old.window(&[number]).push(1.0));
        (20..24).for_each(|number| new.window(&[number]).push(2.0));
        new.take_over(&mut old, |_| true, true);
        assert_eq!(new.len(), 10);
        assert!([5, 6, 7, 20, 21, 22, 23].iter().all(|key| keys(&new).contains(key)), "{:?}", keys(&new));
    }

    #[test]
    fn a_key_that_both_have_is_replaced_only_where_it_is_told() {
        for (replaces, expected) in [(true, 1.0), (false, 2.0)] {
            let (mut old, mut new) = (Table::new(10), Table::new(10));
            (0..4).for_each(|number| old.window(&[number]).push(1.0));
            new.window(&[2]).push(2.0);
            let mut given = old.give_up(|key| key[0] == 3);
            assert_eq!((keys(&old), keys(&given)), (vec![3], vec![0, 1, 2]));
            new.take_over(&mut given, |key| key[0] != 1, replaces);
            assert_eq!((keys(&new), keys(&given)), (vec![0, 2], vec![1]));
            assert_eq!(new.window(&[2]).as_slice(), [expected]);
            assert_eq!(new.window(&[0]).as_slice(), [1.0]);
        }
    }

    #[test]
    fn inv_6_table_stays_within_its_bound_and_keeps_the_latest() {
        let mut table = Table::new(10);
        for number in 0..1_000u32 {
            table.window(&number.to_le_bytes()).push(number as f32);
            assert!(table.len() <= 10, "{}", table.len());
            table.window(b"seen always").push(0.0);
        }
        assert_eq!(table.window(&999u32.to_le_bytes()).len(), 1);
        assert_eq!(table.window(&0u32.to_le_bytes()).len(), 0);
        assert_eq!(table.window(b"seen always").len(), 1_000);
    }
}
