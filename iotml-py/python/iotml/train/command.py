"""The commands `iotml train` and `iotml export`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def train(arguments: Sequence[str]) -> int:
    """Do what `iotml train ARGUMENTS` says; gives the exit code, raises `IotmlError`."""
    from iotml.train import command_train

    parser = _parser("train", command_train.ABOUT)
    command_train.add_arguments(parser)
    return command_train.run(parser.parse_args(arguments))


def export(arguments: Sequence[str]) -> int:
    """Do what `iotml export ARGUMENTS` says; gives the exit code, raises `IotmlError`."""
    from iotml.train import command_export

    parser = _parser("export", command_export.ABOUT)
    command_export.add_arguments(parser)
    return command_export.run(parser.parse_args(arguments))


def _parser(name: str, about: str) -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog=f"iotml {name}", description=about, formatter_class=form)
