"""Times as the native module takes and gives them."""

from __future__ import annotations

from datetime import datetime, timezone

from iotml.exceptions import ConfigError


def milliseconds(what: str, seconds: float) -> str:
    """Write a duration as the configuration has it, at least a millisecond; raises `ConfigError` that begins with `what`.

    >>> milliseconds("a timeout of", 0.25)
    '250ms'
    """
    if not 0 < seconds < 1e9:
        raise ConfigError(f"{what} {seconds} seconds cannot be waited for")
    return f"{max(round(seconds * 1000), 1)}ms"


def utc(millis: float) -> datetime:
    """Give the time that lies so many milliseconds behind the Unix epoch.

    >>> utc(1_500).isoformat()
    '1970-01-01T00:00:01.500000+00:00'
    """
    return datetime.fromtimestamp(millis / 1000, tz=timezone.utc)
