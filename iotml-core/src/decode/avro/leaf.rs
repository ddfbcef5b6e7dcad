//! Values that become one column: what they look like on the wire, and which column type is theirs.

use apache_avro::Schema;

use crate::decode::columns::ColumnType;

/// A scalar on the wire.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wire {
    Bool,
    Int,
    Long,
    Float,
    Double,
    /// A long that counts units of so many nanoseconds since the Unix epoch.
    Time {
        nanos_per_unit: i64,
    },
    /// An int that counts days since the Unix epoch.
    Date,
    Text,
    Blob,
    Fixed(usize),
    Enum(Box<[Box<str>]>),
    /// A two's-complement big-endian number; `fixed` where its length is not on the wire.
    Decimal {
        scale: i32,
        fixed: Option<usize>,
    },
}

impl Wire {
    /// The scalar a schema stands for; `None` for null, records, unions, arrays, maps and references.
    pub fn of(schema: &Schema) -> Option<Wire> {
        Some(match schema {
            Schema::Boolean => Wire::Bool,
            Schema::Int | Schema::TimeMillis => Wire::Int,
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => Wire::Long,
            Schema::Date => Wire::Date,
            Schema::TimestampMillis => Wire::Time { nanos_per_unit: 1_000_000 },
            Schema::TimestampMicros => Wire::Time { nanos_per_unit: 1_000 },
            Schema::Float => Wire::Float,
            Schema::Double => Wire::Double,
            Schema::String | Schema::Uuid => Wire::Text,
            Schema::Bytes | Schema::BigDecimal => Wire::Blob,
            Schema::Fixed(fixed) => Wire::Fixed(fixed.size),
            Schema::Duration => Wire::Fixed(12),
            Schema::Enum(inner) => Wire::Enum(inner.symbols.iter().map(|symbol| symbol.as_str().into()).collect()),
            Schema::Decimal(decimal) => {
                let scale = i32::try_from(decimal.scale).ok()?;
                match &*decimal.inner {
                    Schema::Fixed(fixed) => Wire::Decimal { scale, fixed: Some(fixed.size) },
                    _ => Wire::Decimal { scale, fixed: None },
                }
            }
            _ => return None,
        })
    }

    /// The column type that holds every value.
    pub fn natural(&self) -> ColumnType {
        match self {
            Wire::Bool => ColumnType::Boolean,
            Wire::Int => ColumnType::Int32,
            Wire::Long => ColumnType::Int64,
            Wire::Float => ColumnType::Float32,
            Wire::Double | Wire::Decimal { .. } => ColumnType::Float64,
            Wire::Time { nanos_per_unit: 1_000_000 } => ColumnType::TimestampMillis,
            Wire::Time { .. } => ColumnType::TimestampMicros,
            Wire::Date => ColumnType::Date,
            Wire::Text | Wire::Enum(_) => ColumnType::Utf8,
            Wire::Blob | Wire::Fixed(_) => ColumnType::Binary,
        }
    }

    /// Whether a column of this type can be filled, be it for some values only.
    pub fn casts_to(&self, to: ColumnType) -> bool {
        use ColumnType::*;
        match self {
            Wire::Bool => matches!(to, Boolean | Float32 | Float64 | Int32 | Int64),
            Wire::Int | Wire::Long => !matches!(to, Boolean | Utf8 | Binary),
            Wire::Float | Wire::Double => matches!(to, Float32 | Float64 | Int32 | Int64),
            Wire::Decimal { .. } => matches!(to, Float32 | Float64),
            Wire::Time { .. } => matches!(to, TimestampMillis | TimestampMicros | Int64 | Float64),
            Wire::Date => matches!(to, Date | Int32 | Int64 | Float32 | Float64),
            Wire::Text | Wire::Enum(_) => true,
            Wire::Blob | Wire::Fixed(_) => matches!(to, Utf8 | Binary),
        }
    }

    /// A word for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Wire::Bool => "boolean",
            Wire::Int => "int",
            Wire::Long => "long",
            Wire::Float => "float",
            Wire::Double => "double",
            Wire::Time { .. } => "timestamp",
            Wire::Date => "date",
            Wire::Text => "string",
            Wire::Blob => "bytes",
            Wire::Fixed(_) => "fixed",
            Wire::Enum(_) => "enum",
            Wire::Decimal { .. } => "decimal",
        }
    }
}

/// The type that holds the values of two branches of a union; the first where none does.
pub(super) fn common(first: ColumnType, second: ColumnType) -> ColumnType {
    use ColumnType::*;
    match (first, second) {
        (Int32, Int64) | (Int64, Int32) => Int64,
        (Float32, Float32) => Float32,
        (Int32 | Int64 | Float32 | Float64, Int32 | Int64 | Float32 | Float64) if first != second => Float64,
        _ => first,
    }
}
