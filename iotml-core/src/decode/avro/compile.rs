//! A writer's schema, compiled into a program that writes straight into columns.

use std::collections::{HashMap, HashSet};

use apache_avro::Schema;
use apache_avro::schema::Name;

use super::fields::{Leaves, MAX_NESTING, Steps, enter, extend, join, leaf_path};
use super::leaf::Wire;
use super::schema::{SchemaError, WriterSchema};
use crate::decode::columns::{ColumnConfig, ColumnType, Group, Layout, LayoutColumn};

/// Where text or bytes go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Target {
    /// Number within the storage group.
    pub at: u32,
    /// Number of the column, for messages.
    pub column: u32,
}

/// Where neighbouring numbers go: to neighbours in one storage group.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Run {
    /// Number of the first within the storage group.
    pub first: usize,
    /// Numbers of the columns, for messages.
    pub columns: Box<[u32]>,
}

/// Numbers on the wire that need no look at the schema beyond their width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Int,
    Long,
    Float,
    Double,
}

/// One step of a program.
#[derive(Debug)]
pub(super) enum Op {
    /// Neighbouring numbers of one kind into columns of one storage group: one bounds check where the width is fixed.
    Numbers {
        wire: Number,
        to: Group,
        run: Run,
    },
    /// Numbers of one kind that may each be null: unions of null and the number.
    Nullables {
        wire: Number,
        to: Group,
        null: usize,
        columns: Box<[LayoutColumn]>,
    },
    /// Text, length first, into a text column.
    Text(Target),
    /// Bytes, length first, into a binary column.
    Blob(Target),
    /// One scalar, cast.
    Cast {
        wire: Wire,
        column: LayoutColumn,
    },
    /// A branch by its index.
    Union(Box<[Branch]>),
    SkipFixed(usize),
    SkipVarints(u32),
    SkipBlob,
    SkipArray(Box<[Op]>),
    SkipMap(Box<[Op]>),
    SkipUnion(Box<[Box<[Op]>]>),
    /// Skips a named type, which may contain itself.
    SkipNamed(usize),
}

/// One branch of a union, and the columns that only other branches fill.
#[derive(Debug)]
pub(super) struct Branch {
    pub ops: Box<[Op]>,
    pub nulls: Box<[LayoutColumn]>,
}

/// A compiled writer's schema.
#[derive(Debug)]
pub(super) struct Program {
    pub ops: Box<[Op]>,
    /// How to skip named types.
    pub named: Vec<Box<[Op]>>,
    /// Columns of the layout that this schema does not have, as far as the layout was known.
    pub absent: Vec<LayoutColumn>,
    fills: HashSet<u32>,
    n_known: usize,
}

impl Program {
    /// Compiles `schema` onto `layout`. Without `wanted` every scalar field becomes a column, and fields that the layout does
    /// not know yet are added to it, up to `max_fields` in all.
    pub fn compile(
        schema: &WriterSchema,
        wanted: Option<&[ColumnConfig]>,
        max_fields: usize,
        layout: &mut Layout,
    ) -> Result<Program, SchemaError> {
        let leaves = Leaves::of(schema, max_fields)?;
        extend(layout, wanted, &leaves)?;
        let mut compiler = Compiler {
            schema,
            layout,
            fills: HashSet::new(),
            named: Vec::new(),
            numbers: HashMap::new(),
            open: HashSet::new(),
            steps: Steps::default(),
        };
        let mut ops = Vec::new();
        compiler.value(&schema.root, "", &mut Vec::new(), &mut ops)?;
        let Compiler { fills, named, .. } = compiler;
        let mut program = Program { ops: ops.into(), named, absent: Vec::new(), fills, n_known: 0 };
        program.adapt(layout);
        Ok(program)
    }

    /// Takes note of columns that were added to the layout since.
    pub fn adapt(&mut self, layout: &mut Layout) {
        for column in self.n_known as u32..layout.len() as u32 {
            if !self.fills.contains(&column) {
                layout.make_nullable(column);
                self.absent.push(layout.columns()[column as usize].clone());
            }
        }
        self.n_known = layout.len();
    }
}

struct Compiler<'a> {
    schema: &'a WriterSchema,
    layout: &'a Layout,
    fills: HashSet<u32>,
    named: Vec<Box<[Op]>>,
    numbers: HashMap<Name, usize>,
    /// Named types whose steps are not complete yet.
    open: HashSet<usize>,
    steps: Steps,
}

impl Compiler<'_> {
    fn value(&mut self, at: &Schema, path: &str, open: &mut Vec<Name>, ops: &mut Vec<Op>) -> Result<(), SchemaError> {
        self.steps.take()?;
        if let Some(wire) = Wire::of(at) {
            return match self.layout.get(leaf_path(path)) {
                Some(column) => self.leaf(wire, &column.clone(), ops),
                None => Ok(skip_leaf(&wire, ops)),
            };
        }
        match at {
            Schema::Ref { name } if open.contains(name) => self.skip(at, 0, ops),
            Schema::Ref { name } => self.value(self.schema.named(name)?, path, open, ops),
            Schema::Record(record) => {
                enter(open, &record.name)?;
                for field in &record.fields {
                    self.value(&field.schema, &join(path, &field.name), open, ops)?;
                }
                open.pop();
                Ok(())
            }
            Schema::Union(union) => self.union(union.variants(), path, open, ops),
            _ => self.skip(at, 0, ops),
        }
    }

    fn union(
        &mut self,
        variants: &[Schema],
        path: &str,
        open: &mut Vec<Name>,
        ops: &mut Vec<Op>,
    ) -> Result<(), SchemaError> {
        if let Some((wire, null, column)) = self.nullable_number(variants, path) {
            self.fills.insert(column.column);
            push_nullable(ops, wire, null, column);
            return Ok(());
        }
        let outside = std::mem::take(&mut self.fills);
        let mut branches = Vec::with_capacity(variants.len());
        for variant in variants {
            let mut branch = Vec::new();
            self.value(variant, path, open, &mut branch)?;
            branches.push((branch, std::mem::take(&mut self.fills)));
        }
        let all: HashSet<u32> = branches.iter().flat_map(|(_, fills)| fills).copied().collect();
        if all.is_empty() {
            ops.push(Op::SkipUnion(branches.into_iter().map(|(branch, _)| branch.into()).collect()));
        } else {
            let branches = branches.into_iter().map(|(branch, fills)| {
                let mut nulls: Vec<u32> = all.difference(&fills).copied().collect();
                nulls.sort_unstable();
                let column = |column: u32| self.layout.columns()[column as usize].clone();
                Branch { ops: branch.into(), nulls: nulls.into_iter().map(column).collect() }
            });
            ops.push(Op::Union(branches.collect()));
        }
        self.fills = outside;
        self.fills.extend(all);
        Ok(())
    }

    /// A union of null and one number, which most tables have in every column.
    fn nullable_number(&self, variants: &[Schema], path: &str) -> Option<(Number, usize, LayoutColumn)> {
        let (null, value) = match variants {
            [Schema::Null, value] => (0, value),
            [value, Schema::Null] => (1, value),
            _ => return None,
        };
        let column = self.layout.get(leaf_path(path))?;
        Some((number(&Wire::of(value)?, column.column_type)?, null, column.clone()))
    }

    fn leaf(&mut self, wire: Wire, column: &LayoutColumn, ops: &mut Vec<Op>) -> Result<(), SchemaError> {
        if !wire.casts_to(column.column_type) {
            return Err(SchemaError::Column(format!(
                "field {:?} is {} in the writer's schema and cannot become {:?}",
                column.name,
                wire.name(),
                column.column_type,
            )));
        }
        self.fills.insert(column.column);
        let target = Target { at: column.at, column: column.column };
        let to = column.column_type.group();
        match (&wire, column.column_type) {
            (Wire::Text, ColumnType::Utf8) => ops.push(Op::Text(target)),
            (Wire::Blob | Wire::Text, ColumnType::Binary) => ops.push(Op::Blob(target)),
            _ => match number(&wire, column.column_type) {
                Some(wire) => push_number(ops, wire, to, target),
                None => ops.push(Op::Cast { wire, column: column.clone() }),
            },
        }
        Ok(())
    }

    /// Steps over a value without looking at it.
    fn skip(&mut self, at: &Schema, nesting: usize, ops: &mut Vec<Op>) -> Result<(), SchemaError> {
        self.steps.take()?;
        if nesting > MAX_NESTING {
            return Err(SchemaError::TooLarge(format!("nested deeper than {MAX_NESTING}")));
        }
        if let Some(wire) = Wire::of(at) {
            return Ok(skip_leaf(&wire, ops));
        }
        match at {
            Schema::Ref { name } => {
                let number = self.skip_named(name, nesting)?;
                // A type of no bytes is no step, or an array of it would cost its count and not its bytes. One that is still
                // being compiled contains itself, behind a branch or an item, which take a byte.
                if self.open.contains(&number) || !self.named[number].is_empty() {
                    ops.push(Op::SkipNamed(number));
                }
            }
            Schema::Record(record) => {
                for field in &record.fields {
                    self.skip(&field.schema, nesting + 1, ops)?;
                }
            }
            Schema::Array(array) => ops.push(Op::SkipArray(self.skipped(&array.items, nesting)?)),
            Schema::Map(map) => ops.push(Op::SkipMap(self.skipped(&map.types, nesting)?)),
            Schema::Union(union) => {
                let branches = union.variants().iter().map(|variant| self.skipped(variant, nesting));
                ops.push(Op::SkipUnion(branches.collect::<Result<_, _>>()?));
            }
            _ => {}
        }
        Ok(())
    }

    fn skipped(&mut self, at: &Schema, nesting: usize) -> Result<Box<[Op]>, SchemaError> {
        let mut ops = Vec::new();
        self.skip(at, nesting + 1, &mut ops)?;
        Ok(ops.into())
    }

    fn skip_named(&mut self, name: &Name, nesting: usize) -> Result<usize, SchemaError> {
        if let Some(&number) = self.numbers.get(name) {
            return Ok(number);
        }
        // The number is known before the body is, so that a type may contain itself.
        let number = self.named.len();
        self.named.push(Box::default());
        self.numbers.insert(name.clone(), number);
        self.open.insert(number);
        self.named[number] = self.skipped(self.schema.named(name)?, nesting)?;
        self.open.remove(&number);
        Ok(number)
    }
}

/// The number on the wire, where every value fits the column without a check that could fail on a sound value.
fn number(wire: &Wire, to: ColumnType) -> Option<Number> {
    use ColumnType::*;
    match (wire, to) {
        (Wire::Int, Int32 | Int64 | Float32 | Float64) => Some(Number::Int),
        (Wire::Date, Date | Int32 | Int64 | Float32 | Float64) => Some(Number::Int),
        (Wire::Long, Int64 | Float32 | Float64) | (Wire::Time { .. }, Float64) => Some(Number::Long),
        (Wire::Time { nanos_per_unit: 1_000_000 }, TimestampMillis | Int64) => Some(Number::Long),
        (Wire::Time { nanos_per_unit: 1_000 }, TimestampMicros | Int64) => Some(Number::Long),
        (Wire::Float, Float32 | Float64) => Some(Number::Float),
        (Wire::Double, Float32 | Float64) => Some(Number::Double),
        _ => None,
    }
}

fn push_number(ops: &mut Vec<Op>, wire: Number, to: Group, target: Target) {
    if let Some(Op::Numbers { wire: last_wire, to: last_to, run }) = ops.last_mut() {
        let next = run.first + run.columns.len();
        if *last_wire == wire && *last_to == to && next == target.at as usize {
            let mut longer = std::mem::take(&mut run.columns).into_vec();
            longer.push(target.column);
            run.columns = longer.into();
            return;
        }
    }
    let run = Run { first: target.at as usize, columns: Box::new([target.column]) };
    ops.push(Op::Numbers { wire, to, run });
}

fn push_nullable(ops: &mut Vec<Op>, wire: Number, null: usize, column: LayoutColumn) {
    let to = column.column_type.group();
    if let Some(Op::Nullables { wire: last_wire, to: last_to, null: last_null, columns }) = ops.last_mut()
        && (*last_wire, *last_to, *last_null) == (wire, to, null)
    {
        let mut longer = std::mem::take(columns).into_vec();
        longer.push(column);
        *columns = longer.into();
        return;
    }
    ops.push(Op::Nullables { wire, to, null, columns: Box::new([column]) });
}

fn skip_leaf(wire: &Wire, ops: &mut Vec<Op>) {
    let n_bytes = match wire {
        Wire::Bool => 1,
        Wire::Float => 4,
        Wire::Double => 8,
        Wire::Fixed(size) | Wire::Decimal { fixed: Some(size), .. } => *size,
        Wire::Text | Wire::Blob | Wire::Decimal { fixed: None, .. } => return ops.push(Op::SkipBlob),
        Wire::Int | Wire::Long | Wire::Time { .. } | Wire::Date | Wire::Enum(_) => {
            match ops.last_mut() {
                Some(Op::SkipVarints(n)) => *n = n.saturating_add(1),
                _ => ops.push(Op::SkipVarints(1)),
            }
            return;
        }
    };
    match ops.last_mut() {
        Some(Op::SkipFixed(n)) => *n = n.saturating_add(n_bytes),
        // A step that takes no bytes would let a few bytes of input cause endless work.
        _ if n_bytes == 0 => {}
        _ => ops.push(Op::SkipFixed(n_bytes)),
    }
}
