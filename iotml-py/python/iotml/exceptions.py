"""One tree of exceptions: catch `IotmlError` for everything, or the class of a stage.

The built-in base is there where it fits, so that `except ValueError` catches a wrong configuration too. The causes of
an error in Rust are chained as `__cause__`.
"""

from __future__ import annotations

from collections.abc import Sequence


class IotmlError(Exception):
    """Anything that iotml raises."""


class ConfigError(IotmlError, ValueError):
    """An argument or a configuration that cannot be used; nothing was started.

    `mistakes` lists what is wrong with a document, each with its place and line.
    """

    mistakes: list[str] = []  # noqa: RUF012 - replaced, never changed


class SourceError(IotmlError, OSError):
    """Kafka or a file cannot be read: a broker away, a topic unknown, a password wrong, offsets gone."""


class DecodeError(IotmlError, ValueError):
    """Bytes that are not what the schema says, or a schema that cannot be had."""


class PreprocessError(IotmlError, ValueError):
    """A preprocessor that failed, or rows that it refused."""


class ScoreError(IotmlError, RuntimeError):
    """A model that failed while it ran, or rows that cannot be scored; then `rows` has their indices."""

    rows: Sequence[int] = ()


class EncodeError(IotmlError, ValueError):
    """Columns that cannot be encoded."""


class SinkError(IotmlError, OSError):
    """Results that could not be made durable."""


class ModelError(IotmlError, ValueError):
    """A model or manifest that is refused: unreadable, not acceptable, or its golden rows do not come out."""


class StoreError(IotmlError, OSError):
    """A model store that cannot be asked, or does not do it: away, access denied, no such version, a version taken.

    `retryable` says whether the same call may succeed later.
    """

    retryable: bool = False


class RolloutError(IotmlError, ValueError):
    """What is announced of a model cannot be changed like this: a version unknown, shares that contradict each other."""


class ExportError(IotmlError, ValueError):
    """A framework's model that cannot be exported; the message says what to do."""


class PipelineError(IotmlError, RuntimeError):
    """A pipeline that could not start or that failed."""


class UnknownColumnError(PipelineError, KeyError):
    """A plug-in asked a batch for a column that is not there; the message names those that are."""

    def __str__(self) -> str:
        """Without the quotes that `KeyError` puts around its message."""
        return str(self.args[0]) if self.args else ""


class RetryableError(IotmlError):
    """Raised by a plug-in: the same rows may succeed later, within `errors.retry.timeout`."""


class ForkedError(IotmlError, RuntimeError):
    """A native handle used in another process than the one that opened it."""


class MissingPackageError(IotmlError, ImportError):
    """An optional package that is not installed; the message names the extra of iotml that brings it."""
