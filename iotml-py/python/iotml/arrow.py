"""What an Arrow object of any library looks like: pyarrow, polars, pandas, DuckDB and others speak this interface."""

from __future__ import annotations

from typing import Protocol, TypeAlias


class ArrowArray(Protocol):
    """Has one batch of columns, such as `pyarrow.RecordBatch`."""

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        """Give the capsules of schema and columns."""


class ArrowStream(Protocol):
    """Has batches of columns one after the other, such as `pyarrow.Table` or a `DataFrame` of polars or pandas."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Give the capsule of a stream."""


ArrowData: TypeAlias = ArrowArray | ArrowStream
