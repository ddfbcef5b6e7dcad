//! Scores of a shadow model: they travel beside those that are acted upon, and part from them where routes begin.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, FieldRef, Schema};
use arrow::error::ArrowError;

use crate::batch::Batch;

/// The key in a field's metadata that marks a shadow's column; its value is the name that the column has on shadow routes.
const MARK: &str = "iotml.shadow";

/// The field of a shadow's column that stands for `field`. Only shadow routes see it, under the name of `field`.
pub fn shadow_field(field: &Field) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(MARK.to_owned(), field.name().clone());
    field.clone().with_name(format!("shadow:{}", field.name())).with_metadata(metadata)
}

/// The rows as acting routes see them and, if a shadow has scored them, as shadow routes do: with the shadow's columns in the
/// place of those of the same names.
pub(crate) fn split(batch: Batch) -> Result<(Batch, Option<Batch>), ArrowError> {
    let columns = batch.columns();
    let fields = columns.schema_ref().fields().iter();
    let (marked, plain): (Vec<usize>, Vec<usize>) =
        (0..columns.num_columns()).partition(|at| is_marked(columns.schema_ref().field(*at)));
    if marked.is_empty() {
        return Ok((batch, None));
    }
    let acting = columns.project(&plain)?;
    let all: Vec<(&FieldRef, &ArrayRef)> = fields.zip(columns.columns()).collect();
    let names: Vec<&String> = marked.iter().filter_map(|at| all[*at].0.metadata().get(MARK)).collect();
    let mut shadow: Vec<(FieldRef, ArrayRef)> = Vec::with_capacity(plain.len());
    for (field, array) in plain.iter().map(|at| all[*at]).filter(|(field, _)| !names.contains(&field.name())) {
        shadow.push((field.clone(), array.clone()));
    }
    for (field, array) in marked.iter().map(|at| all[*at]) {
        let mut metadata = field.metadata().clone();
        let name = metadata.remove(MARK).unwrap_or_default();
        let field = field.as_ref().clone().with_name(name).with_metadata(metadata);
        shadow.push((Arc::new(field), array.clone()));
    }
    let (fields, arrays): (Vec<FieldRef>, Vec<ArrayRef>) = shadow.into_iter().unzip();
    let schema = Schema::new_with_metadata(fields, columns.schema_ref().metadata().clone());
    let options = RecordBatchOptions::new().with_row_count(Some(columns.num_rows()));
    let shadow = RecordBatch::try_new_with_options(Arc::new(schema), arrays, &options)?;
    let shadow = batch.clone().with_columns(shadow)?;
    Ok((batch.with_columns(acting)?, Some(shadow)))
}

fn is_marked(field: &Field) -> bool {
    field.metadata().contains_key(MARK)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float32Array, Int32Array};
    use arrow::datatypes::DataType;

    use super::*;
    use crate::batch::{Coordinate, Lane, Message, Position, RawBatch, RawMessage};

    fn batch(columns: Vec<(Field, ArrayRef)>) -> Batch {
        let mut raw = RawBatch::default();
        let position = Position { lane: Lane(0), seq: 0 };
        raw.push(RawMessage { message: Message::default(), position, coordinate: Coordinate::NONE });
        let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
        let columns = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
        Batch::decoded(Arc::new(raw), vec![0], columns)
    }

    #[test]
    fn a_shadows_columns_take_the_place_of_the_others_on_its_routes_only() {
        let score = Field::new("score", DataType::Float32, true);
        let number = |value: f32| Arc::new(Float32Array::from(vec![value])) as ArrayRef;
        let speed = (Field::new("speed", DataType::Int32, false), Arc::new(Int32Array::from(vec![7])) as ArrayRef);
        let whole = batch(vec![speed.clone(), (score.clone(), number(1.0)), (shadow_field(&score), number(2.0))]);
        let (acting, shadow) = split(whole).unwrap();
        let plain = batch(vec![speed.clone(), (score.clone(), number(1.0))]);
        assert_eq!(acting.columns(), plain.columns());
        assert_eq!(shadow.unwrap().columns(), batch(vec![speed, (score, number(2.0))]).columns());
        assert!(split(plain).unwrap().1.is_none());
    }
}
