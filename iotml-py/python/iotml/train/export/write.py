"""Model and manifest replace the files of their names as wholes, or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def prepared(target: Path, content: bytes, document: str) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Write both files into a scratch folder beside `target`.

    Gives the model's path there, and the function that moves both to their places.

    Without a call of that function nothing is left behind. The model goes first: the manifest inside it is the one that
    counts, so a crash between the two leaves a model that works.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.stem}-", dir=target.parent) as folder:
        model, manifest = Path(folder, target.name), Path(folder, target.with_suffix(".json").name)
        for path, data in ((model, content), (manifest, f"{document}\n".encode())):
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

        def commit() -> None:
            model.replace(target)
            manifest.replace(target.with_suffix(".json"))

        yield model, commit
