"""Servers inside this process, for tests and notebooks without servers."""

from __future__ import annotations

from iotml._iotml import EmbeddedKafka, EmbeddedMqtt

__all__ = ["EmbeddedKafka", "EmbeddedMqtt"]
