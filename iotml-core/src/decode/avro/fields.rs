//! The fields of a writer's schema that become columns.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::Name;

use super::leaf::{Wire, common};
use super::schema::{SchemaError, WriterSchema};
use crate::decode::columns::{ColumnConfig, ColumnType, Layout};

/// Nesting of one schema.
pub(super) const MAX_NESTING: usize = 64;
/// Types that are looked at in one schema, references followed: a few nested references multiply to more than memory holds.
const MAX_STEPS: usize = 65_536;

/// Counts the types that are looked at, to a limit.
#[derive(Debug, Default)]
pub(super) struct Steps(usize);

impl Steps {
    pub fn take(&mut self) -> Result<(), SchemaError> {
        self.0 += 1;
        if self.0 > MAX_STEPS {
            return Err(SchemaError::TooLarge(format!("more than {MAX_STEPS} types, with what its references name")));
        }
        Ok(())
    }
}

/// The scalar fields of a schema in order: dotted path, type, whether it can be null.
pub(super) struct Leaves {
    fields: Vec<(String, ColumnType, bool)>,
    by_path: HashMap<String, usize>,
    max_fields: usize,
    steps: Steps,
}

impl Leaves {
    /// Errs if there are more than `max_fields`.
    pub fn of(schema: &WriterSchema, max_fields: usize) -> Result<Leaves, SchemaError> {
        let mut leaves = Leaves { fields: Vec::new(), by_path: HashMap::new(), max_fields, steps: Steps::default() };
        leaves.visit(schema, &schema.root, "", false, &mut Vec::new())?;
        Ok(leaves)
    }

    fn visit(
        &mut self,
        schema: &WriterSchema,
        at: &Schema,
        path: &str,
        nullable: bool,
        open: &mut Vec<Name>,
    ) -> Result<(), SchemaError> {
        self.steps.take()?;
        if let Some(wire) = Wire::of(at) {
            return self.add(leaf_path(path), wire.natural(), nullable);
        }
        match at {
            Schema::Ref { name } if !open.contains(name) => {
                self.visit(schema, schema.named(name)?, path, nullable, open)
            }
            Schema::Record(record) => {
                enter(open, &record.name)?;
                for field in &record.fields {
                    self.visit(schema, &field.schema, &join(path, &field.name), nullable, open)?;
                }
                open.pop();
                Ok(())
            }
            Schema::Union(union) => {
                let nullable = nullable || union.variants().len() > 1;
                union.variants().iter().try_for_each(|variant| self.visit(schema, variant, path, nullable, open))
            }
            _ => Ok(()),
        }
    }

    fn add(&mut self, path: &str, column_type: ColumnType, nullable: bool) -> Result<(), SchemaError> {
        if let Some(&known) = self.by_path.get(path) {
            let (_, first, _) = &mut self.fields[known];
            *first = common(*first, column_type);
            return Ok(());
        }
        if self.fields.len() >= self.max_fields {
            return Err(too_many(self.max_fields));
        }
        self.by_path.insert(path.to_owned(), self.fields.len());
        self.fields.push((path.to_owned(), column_type, nullable));
        Ok(())
    }

    /// The limit that these were taken with.
    pub fn max_fields(&self) -> usize {
        self.max_fields
    }

    fn get(&self, path: &str) -> Option<&(String, ColumnType, bool)> {
        self.by_path.get(path).map(|at| &self.fields[*at])
    }
}

/// Adds to the layout what the schema has and it does not, or what is wanted.
pub(super) fn extend(layout: &mut Layout, wanted: Option<&[ColumnConfig]>, leaves: &Leaves) -> Result<(), SchemaError> {
    let Some(wanted) = wanted else {
        let n_new = leaves.fields.iter().filter(|(path, ..)| layout.get(path).is_none()).count();
        if layout.len() + n_new > leaves.max_fields() {
            return Err(too_many(leaves.max_fields()));
        }
        let n_before = layout.len() as u32;
        for (path, column_type, nullable) in &leaves.fields {
            let column = layout.add(path, *column_type, *nullable);
            // A column that an earlier schema did not have was null there.
            if *nullable || (n_before > 0 && column >= n_before) {
                layout.make_nullable(column);
            }
        }
        return Ok(());
    };
    for column in wanted {
        match (leaves.get(&column.name), column.column_type) {
            (_, Some(column_type)) => layout.add_wanted(column, column_type),
            (Some((_, column_type, _)), None) => layout.add_wanted(column, *column_type),
            (None, None) => {
                let known: Vec<&str> = leaves.fields.iter().map(|(path, ..)| path.as_str()).collect();
                return Err(SchemaError::Column(format!(
                    "the writer's schema has no scalar field {:?}: it has {}; give the column a type to have nulls instead",
                    column.name,
                    known.join(", "),
                )));
            }
        };
    }
    Ok(())
}

fn too_many(max_fields: usize) -> SchemaError {
    SchemaError::TooLarge(format!("more than {max_fields} fields, with those of other schemas; see `max_fields`"))
}

/// Goes into a record, to a limit.
pub(super) fn enter(open: &mut Vec<Name>, name: &Name) -> Result<(), SchemaError> {
    if open.len() == MAX_NESTING {
        return Err(SchemaError::TooLarge(format!("nested deeper than {MAX_NESTING}")));
    }
    open.push(name.clone());
    Ok(())
}

/// The path of a field within a record.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A schema that is no record has one column.
pub(super) fn leaf_path(path: &str) -> &str {
    if path.is_empty() { "value" } else { path }
}
