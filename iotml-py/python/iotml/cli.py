"""The command line `iotml`: a worker, the demo and the simulator in Rust, training and scoring of files in Python."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from iotml import _iotml
from iotml.exceptions import IotmlError

if TYPE_CHECKING:
    from iotml.plugins import Plugins

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells give it."""


def main(arguments: Sequence[str] | None = None, *, plugins: Plugins | None = None) -> int:
    """Do what `arguments` say, by default those of the process, and return the exit code.

    `plugins` are stages written in Python, which `run`, `validate`, `plugins`, `graph` and `schema` then know as well.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) == 2 and words[0] == "help" and words[1] in COMMANDS:
        words = [words[1], "--help"]
    if words and words[0] in COMMANDS:
        return _in_python(COMMANDS[words[0]][1], words)
    elsewhere = [(name, about) for name, (about, _) in COMMANDS.items()]

    def run(words: Sequence[str]) -> int:
        with _DefaultInterrupt():
            return _iotml.run_command(["iotml", *words], elsewhere, plugins)

    if words[:2] == ["model", "compare"] and any(word.split("=")[0] == "--png" for word in words):
        from iotml.comparison import compare

        return _in_python(lambda words: compare(words, run), ["model", *words])
    return run(words)


def _in_python(command: Callable[[Sequence[str]], int], words: list[str]) -> int:
    try:
        return command(words[1:])
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # A reader that has gone away (`iotml score cars.csv | head`) is no failure, and must not be written to again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except IotmlError as error:
        print(f"iotml {words[0]}: {error}", file=sys.stderr)
        return 1


def _train(arguments: Sequence[str]) -> int:
    from iotml.train.command import train

    return train(list(arguments))


def _export(arguments: Sequence[str]) -> int:
    from iotml.train.command import export

    return export(list(arguments))


def _score(arguments: Sequence[str]) -> int:
    from iotml.score_file import score

    return score(arguments)


COMMANDS: dict[str, tuple[str, Callable[[Sequence[str]], int]]] = {
    "train": ("Train a network on a Kafka topic or files, and export it to ONNX", _train),
    "export": ("Export a trained model of TensorFlow, PyTorch or scikit-learn to ONNX", _export),
    "score": ("Score the rows of a CSV, Parquet or Avro file with a model", _score),
}
"""What is done in Python: what it is, and what does it."""


class _DefaultInterrupt:
    """Ctrl-C goes to Rust, which drains pipelines, and not to Python, which would only hear of it afterwards."""

    def __enter__(self) -> None:
        self._before = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, signal.SIG_DFL)

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
