//! Text formats carry no types: columns are configured, or inferred from the first row that decodes.

use std::sync::Arc;

use super::DecodeError;
use super::avro::payload;
use super::columns::{ColumnConfig, ColumnType, Columns, Layout, check_columns};
use crate::batch::{Batch, RawBatch, Rejected, StageOutput};
use crate::error::{Cause, ConfigError, Reason};

/// A text format: how one payload becomes the current row of the columns.
pub(super) trait TextFormat {
    /// What is made once from the layout, to find columns quickly.
    type Plan;

    /// The names and types of the fields of a payload, for decoders without configured columns.
    fn infer(&self, payload: &[u8]) -> Result<Vec<(String, ColumnType)>, Cause>;

    /// What [`row`](TextFormat::row) needs to know of the layout.
    fn plan(&self, layout: &Layout) -> Self::Plan;

    /// Gives every column a value or a null.
    fn row(
        &mut self,
        payload: &[u8],
        layout: &Layout,
        plan: &mut Self::Plan,
        columns: &mut Columns,
    ) -> Result<(), Cause>;
}

/// The columns of a decoder of text, once they are known.
pub(super) struct TextColumns<P> {
    known: Option<(Layout, P)>,
}

impl<P> TextColumns<P> {
    /// Configured columns, which need types, or none yet.
    pub fn new<F: TextFormat<Plan = P>>(format: &F, wanted: Option<&[ColumnConfig]>) -> Result<Self, ConfigError> {
        let Some(wanted) = wanted else { return Ok(Self { known: None }) };
        check_columns(wanted)?;
        let mut layout = Layout::default();
        for column in wanted {
            let Some(column_type) = column.column_type else {
                let message = format!(
                    "column {:?} needs a type: {{ name = {:?}, type = \"float32\" }}",
                    column.name, column.name
                );
                return Err(ConfigError::new(message));
            };
            layout.add_wanted(column, column_type);
        }
        let plan = format.plan(&layout);
        Ok(Self { known: Some((layout, plan)) })
    }

    /// Decodes every message.
    pub fn decode<F: TextFormat<Plan = P>>(
        &mut self,
        format: &mut F,
        raw: &Arc<RawBatch>,
        max_bytes: usize,
    ) -> Result<StageOutput, DecodeError> {
        let (mut origins, mut rejected) = (Vec::with_capacity(raw.len()), Vec::new());
        let mut columns = self.known.as_ref().map(|(layout, _)| Columns::new(layout, raw.len()));
        for row in 0..raw.len() {
            let decoded = payload(raw, row, max_bytes).and_then(|payload| match (&mut self.known, &mut columns) {
                (Some((layout, plan)), Some(columns)) => format.row(payload, layout, plan, columns),
                _ => {
                    let (layout, mut plan) = infer(format, payload)?;
                    // Tried in room for one row, since rows that fail here could each ask for the room of a whole batch.
                    format.row(payload, &layout, &mut plan, &mut Columns::new(&layout, 1))?;
                    let columns = columns.insert(Columns::new(&layout, raw.len()));
                    let (layout, plan) = self.known.insert((layout, plan));
                    format.row(payload, layout, plan, columns)
                }
            });
            match (decoded, &mut columns) {
                (Ok(()), Some(columns)) => {
                    columns.commit();
                    origins.push(row as u32);
                }
                (Err(cause), columns) => {
                    columns.iter_mut().for_each(|columns| columns.rollback());
                    rejected.push(Rejected { row: row as u32, cause });
                }
                (Ok(()), None) => return Err(DecodeError::fatal("a row was decoded without columns")),
            }
        }
        let batch = match (&mut self.known, columns) {
            (Some((layout, _)), Some(columns)) => {
                let columns = columns.finish(layout);
                let columns = columns.map_err(|source| DecodeError::fatal_from("columns do not fit", source))?;
                Batch::decoded(raw.clone(), origins, columns)
            }
            _ => {
                Batch::undecoded(raw.clone()).take(&[]).map_err(|source| DecodeError::fatal_from("no rows", source))?
            }
        };
        Ok(StageOutput { batch, rejected, filtered: Vec::new() })
    }
}

fn infer<F: TextFormat>(format: &F, payload: &[u8]) -> Result<(Layout, F::Plan), Cause> {
    let mut layout = Layout::default();
    for (name, column_type) in format.infer(payload)? {
        layout.add(&name, column_type, true);
    }
    if layout.len() == 0 {
        // Such a row would leave all that follow without columns.
        return Err(Cause::new(Reason::Missing, "no value to infer a column from, and no columns are configured"));
    }
    let plan = format.plan(&layout);
    Ok((layout, plan))
}
