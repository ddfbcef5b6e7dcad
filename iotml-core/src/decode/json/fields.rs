//! Finds the column of a field.

use std::collections::HashMap;

use crate::decode::columns::{Columns, Fault, Layout};

/// Objects with more fields than this are searched by hash.
const SCANNED: usize = 8;

/// The columns as a tree of objects.
pub(super) struct Fields {
    pub root: Object,
    pub seen: Seen,
}

/// The fields of one object that are wanted.
#[derive(Default)]
pub(super) struct Object {
    fields: Vec<(Box<str>, Field)>,
    by_name: HashMap<Box<str>, usize>,
}

pub(super) enum Field {
    /// The number of a column.
    Column(u32),
    Object(Object),
}

/// Which columns the current row has given a value.
#[derive(Default)]
pub(super) struct Seen {
    /// The row that gave a value last, by column.
    rows: Vec<u64>,
    row: u64,
    n_seen: usize,
}

impl Fields {
    pub fn of(layout: &Layout) -> Self {
        let mut root = Object::default();
        for column in layout.columns() {
            root.add(&column.name, column.column);
        }
        Self { root, seen: Seen { rows: vec![0; layout.len()], row: 0, n_seen: 0 } }
    }

    /// Makes null what the row did not have.
    pub fn finish(&self, layout: &Layout, columns: &mut Columns) -> Result<(), Fault> {
        if self.seen.n_seen == layout.len() {
            return Ok(());
        }
        let missing = layout.columns().iter().filter(|column| self.seen.rows[column.column as usize] != self.seen.row);
        missing.into_iter().try_for_each(|column| columns.put_null(column))
    }
}

impl Seen {
    pub fn begin(&mut self) {
        self.row += 1;
        self.n_seen = 0;
    }

    /// Takes note of a value; `false` if the row has given one before.
    pub fn mark(&mut self, column: u32) -> bool {
        let last = &mut self.rows[column as usize];
        let first = *last != self.row;
        *last = self.row;
        self.n_seen += usize::from(first);
        first
    }
}

impl Object {
    fn add(&mut self, path: &str, column: u32) {
        let (name, inside) = match path.split_once('.') {
            Some((name, inside)) => (name, Some(inside)),
            None => (path, None),
        };
        let at = match self.by_name.get(name) {
            Some(at) => *at,
            None => {
                let field = match inside {
                    Some(_) => Field::Object(Object::default()),
                    None => Field::Column(column),
                };
                self.fields.push((name.into(), field));
                self.by_name.insert(name.into(), self.fields.len() - 1);
                self.fields.len() - 1
            }
        };
        // A field that is wanted both as a value and as an object can only be one of them: the first stays.
        if let (Some(inside), Field::Object(object)) = (inside, &mut self.fields[at].1) {
            object.add(inside, column);
        }
    }

    /// The field of this name. `next` is where the field before it stood, because writers mostly keep an order.
    pub fn find(&self, name: &str, next: &mut usize) -> Option<&Field> {
        let at = match self.fields.get(*next) {
            Some((expected, _)) if **expected == *name => *next,
            _ if self.fields.len() <= SCANNED => self.fields.iter().position(|(known, _)| **known == *name)?,
            _ => *self.by_name.get(name)?,
        };
        *next = at + 1;
        Some(&self.fields[at].1)
    }
}
