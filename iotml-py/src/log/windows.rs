//! Windows of consecutive rows of one key, as a model reads them that forecasts the next row.

use std::collections::HashMap;

/// Keeps the last rows of every key.
pub struct Windows {
    look_back: usize,
    width: usize,
    rings: HashMap<Box<[u8]>, Ring>,
    /// Of the rows without a key, which are taken for one sequence.
    keyless: Ring,
    /// Whether windows end with their partition: all rows of a key stand in one, and memory is then bounded by the keys of one.
    by_partition: bool,
    partition: Option<i32>,
}

/// The last rows of a key, the oldest at `at` once all places are taken.
#[derive(Default)]
struct Ring {
    rows: Vec<f32>,
    at: usize,
}

impl Windows {
    pub fn new(look_back: usize, width: usize, by_partition: bool) -> Self {
        let (rings, keyless) = (HashMap::new(), Ring::default());
        Self { look_back, width, rings, keyless, by_partition, partition: None }
    }

    /// Adds a row to the sequence of its key. If it is the next one after a full window, appends the window, oldest row
    /// first, to `windows`, and says so.
    pub fn push(&mut self, partition: i32, key: Option<&[u8]>, row: &[f32], windows: &mut Vec<f32>) -> bool {
        if self.by_partition && self.partition.replace(partition) != Some(partition) {
            self.rings.clear();
            self.keyless = Ring::default();
        }
        let ring = match key {
            None => &mut self.keyless,
            Some(key) if self.rings.contains_key(key) => match self.rings.get_mut(key) {
                Some(ring) => ring,
                None => return false,
            },
            Some(key) => self.rings.entry(key.into()).or_default(),
        };
        let size = self.look_back * self.width;
        if ring.rows.len() < size {
            ring.rows.extend_from_slice(row);
            return false;
        }
        let (newest, oldest) = ring.rows.split_at(ring.at);
        windows.extend_from_slice(oldest);
        windows.extend_from_slice(newest);
        ring.rows[ring.at..ring.at + self.width].copy_from_slice(row);
        ring.at = (ring.at + self.width) % size;
        true
    }
}
