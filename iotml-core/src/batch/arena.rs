//! Many byte strings in one buffer, so that a message costs no allocation of its own.

/// An append-only list of optional byte strings in one buffer.
#[derive(Clone, Debug, Default)]
pub struct Arena {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Empty as long as no value is null, which is the usual case.
    present: Vec<bool>,
}

impl Arena {
    /// An arena with room for `rows` values of `bytes` bytes in all.
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(rows), present: Vec::new() }
    }

    /// Appends one value; `None` is a null (a tombstone or a missing key), not an empty value.
    #[inline]
    pub fn push(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.bytes.extend_from_slice(value),
            None if self.present.is_empty() => self.present.resize(self.ends.len(), true),
            None => {}
        }
        self.end_row(value.is_some());
    }

    /// Appends one value by letting `write` append its bytes to the buffer.
    #[inline]
    pub fn push_with<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let start = self.bytes.len();
        let written = write(&mut self.bytes);
        if written.is_err() {
            self.bytes.truncate(start);
            return written;
        }
        self.end_row(true);
        written
    }

    #[inline]
    fn end_row(&mut self, present: bool) {
        self.ends.push(self.bytes.len());
        // Once one null was seen every row needs its flag.
        if !present || !self.present.is_empty() {
            self.present.push(present);
        }
    }

    /// The value of `row`; `None` where it is null. Panics if `row` is out of bounds.
    #[inline]
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        let end = self.ends[row];
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        if self.present.get(row).is_none_or(|present| *present) { Some(&self.bytes[start..end]) } else { None }
    }

    /// All values in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<&[u8]>> {
        (0..self.len()).map(|row| self.get(row))
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all values together.
    pub fn n_bytes(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_nulls_apart_from_empty_values() {
        let mut arena = Arena::default();
        arena.push(Some(b"ab"));
        arena.push(Some(b""));
        arena.push(None);
        arena.push(Some(b"c"));
        let values: Vec<_> = arena.iter().collect();
        assert_eq!(values, [Some(&b"ab"[..]), Some(&b""[..]), None, Some(&b"c"[..])]);
    }

    #[test]
    fn a_failed_write_leaves_no_trace() {
        let mut arena = Arena::default();
        let failed = arena.push_with(|bytes| {
            bytes.push(1);
            Err("no")
        });
        assert_eq!(failed, Err("no"));
        assert_eq!((arena.len(), arena.n_bytes()), (0, 0));
    }
}
