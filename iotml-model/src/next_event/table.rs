//! A bounded table of windows that forgets the keys not seen for the longest time.

use std::collections::HashMap;

/// Windows by key in two generations.
///
/// A key that is seen moves to the young generation. When that holds half of the bound, the old one is dropped and the young
/// one becomes old: the bound holds, and a key is dropped only after at least half of the bound of other keys was seen.
#[derive(Debug)]
pub(super) struct Table {
    young: HashMap<Box<[u8]>, Vec<f32>>,
    old: HashMap<Box<[u8]>, Vec<f32>>,
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

    /// Takes over the windows of keys that are not here, as the ones not seen for the longest time.
    pub(super) fn inherit(&mut self, other: Table) {
        for (key, window) in other.young.into_iter().chain(other.old) {
            if self.old.len() >= self.half {
                return;
            }
            if !self.young.contains_key(&key) && !self.old.contains_key(&key) {
                self.old.insert(key, window);
            }
        }
    }

    /// All windows, older generation first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[f32])> {
        self.old.iter().chain(&self.young).map(|(key, window)| (key.as_ref(), window.as_slice()))
    }

    pub(super) fn len(&self) -> usize {
        self.old.len() + self.young.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_6_what_is_inherited_stays_within_the_bound_and_replaces_nothing() {
        let (mut old, mut new) = (Table::new(10), Table::new(10));
        for number in 0..8u32 {
            old.window(&number.to_le_bytes()).push(1.0);
        }
        new.window(&7u32.to_le_bytes()).push(2.0);
        new.inherit(old);
        assert_eq!(new.iter().count(), 6, "half of the bound, and what was there");
        assert_eq!(new.window(&7u32.to_le_bytes()), &[2.0]);
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
