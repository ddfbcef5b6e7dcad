//! Headers of many messages in flat storage; a batch without headers stores nothing.

use std::ops::Range;

use super::names::Names;

/// One header of a message, in the sense of Kafka record headers and MQTT user properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Name; names may repeat within one message.
    pub name: &'a str,
    /// Value; `None` is a null value.
    pub value: Option<&'a [u8]>,
}

#[derive(Clone, Debug)]
struct Entry {
    name: u32,
    end: usize,
    present: bool,
}

/// The headers of all messages of a batch, in order.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    names: Names,
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    /// Rows beyond the end of this list have no headers.
    row_ends: Vec<usize>,
}

impl Headers {
    /// Appends one header to message `row`. Rows are filled in ascending order; panics if `row` was closed before.
    pub fn push(&mut self, row: usize, header: Header<'_>) {
        assert!(self.row_ends.len() <= row + 1, "headers are appended in row order");
        while self.row_ends.len() <= row {
            self.row_ends.push(self.entries.len());
        }
        let name = self.names.intern(header.name);
        if let Some(value) = header.value {
            self.bytes.extend_from_slice(value);
        }
        self.entries.push(Entry { name, end: self.bytes.len(), present: header.value.is_some() });
        self.row_ends[row] = self.entries.len();
    }

    /// How many headers message `row` has.
    pub fn n_of(&self, row: usize) -> usize {
        self.range(row).len()
    }

    fn range(&self, row: usize) -> Range<usize> {
        match self.row_ends.get(row) {
            Some(end) => (if row == 0 { 0 } else { self.row_ends[row - 1] })..*end,
            None => 0..0,
        }
    }

    /// The headers of message `row`, in the order they came in.
    pub fn of(&self, row: usize) -> impl Iterator<Item = Header<'_>> + Clone {
        self.range(row).map(|index| {
            let entry = &self.entries[index];
            let from = if index == 0 { 0 } else { self.entries[index - 1].end };
            Header { name: self.names.get(entry.name), value: entry.present.then(|| &self.bytes[from..entry.end]) }
        })
    }

    /// The last header of message `row` with this name, as Kafka's `lastHeader`.
    pub fn last(&self, row: usize, name: &str) -> Option<Header<'_>> {
        self.of(row).filter(|header| header.name == name).last()
    }

    /// Whether no message has headers.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes held: values, names once each, and the fixed cost of each header.
    pub fn n_bytes(&self) -> usize {
        self.bytes.len() + self.names.n_bytes() + self.entries.len() * size_of::<Entry>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_headers_may_stand_between() {
        let mut headers = Headers::default();
        headers.push(1, Header { name: "a", value: Some(b"1") });
        headers.push(1, Header { name: "a", value: None });
        headers.push(3, Header { name: "b", value: Some(b"") });
        let names = |row| headers.of(row).map(|h| (h.name.to_owned(), h.value.map(<[u8]>::to_vec))).collect::<Vec<_>>();
        assert!(names(0).is_empty() && names(2).is_empty() && names(9).is_empty());
        assert_eq!(names(1), [("a".to_owned(), Some(b"1".to_vec())), ("a".to_owned(), None)]);
        assert_eq!(names(3), [("b".to_owned(), Some(vec![]))]);
        assert_eq!(headers.last(1, "a"), Some(Header { name: "a", value: None }));
        assert_eq!([0, 1, 2, 3, 9].map(|row| headers.n_of(row)), [0, 2, 0, 1, 0]);
    }

    #[test]
    fn a_hundred_thousand_names_that_a_sender_made_up_take_no_time_and_are_counted() {
        let mut headers = Headers::default();
        let begun = std::time::Instant::now();
        for n in 0..100_000 {
            headers.push(0, Header { name: &format!("made-up-{n}"), value: None });
        }
        assert!(begun.elapsed().as_secs() < 5, "{:?}: a scan would take minutes", begun.elapsed());
        assert_eq!(headers.n_of(0), 100_000);
        assert!(headers.n_bytes() > 100_000 * "made-up-".len(), "{}", headers.n_bytes());
    }
}
