//! Timestamps without their time zone.
//!
//! Arrow stores instants in UTC whatever zone the type names, but parses and prints them only if it knows the zone, and
//! it knows no names of zones without a database of them: not even `UTC`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};

/// The type of the same instants without a zone; other types as they are.
pub(super) fn zoneless_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(unit, _) => DataType::Timestamp(*unit, None),
        other => other.clone(),
    }
}

/// The same instants as `data_type` names them, which differs from the array's type in the zone only; other arrays as
/// they are.
pub(super) fn relabel(array: &ArrayRef, data_type: &DataType) -> ArrayRef {
    let (DataType::Timestamp(unit, _), DataType::Timestamp(_, zone)) = (array.data_type(), data_type) else {
        return array.clone();
    };
    macro_rules! relabel {
        ($arrow:ty) => {
            Arc::new(array.as_primitive::<$arrow>().clone().with_timezone_opt(zone.clone()))
        };
    }
    match unit {
        TimeUnit::Second => relabel!(TimestampSecondType),
        TimeUnit::Millisecond => relabel!(TimestampMillisecondType),
        TimeUnit::Microsecond => relabel!(TimestampMicrosecondType),
        TimeUnit::Nanosecond => relabel!(TimestampNanosecondType),
    }
}
