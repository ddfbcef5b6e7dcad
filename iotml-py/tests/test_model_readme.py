"""What the README says of publishing and rolling out, done."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import iotml
import stores
from conftest import server
from iotml import ModelStore

README = Path(__file__).parents[1] / "README.md"


def test_the_readme_publishes_and_rolls_out(cars: Path, unique: str, tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n([^`]*ModelStore[^`]*)^```", README.read_text(), re.MULTILINE)
    kafka, topic = server("IOTML_KAFKA"), f'"{unique}-models", status_topic="{unique}-status"'
    for placeholder, name in [('"localhost:9092"', f'"{kafka}", {topic}'), ("factory-7", unique)]:
        assert placeholder in code
        code = code.replace(placeholder, name)
    shutil.copy(cars, tmp_path / "cars.onnx")
    properties = stores.properties(server("IOTML_S3"))
    announced = iotml.ModelTopic(kafka, f"{unique}-models", status_topic=f"{unique}-status")
    store = ModelStore(f"s3://models/{unique}", properties=properties)
    announced.announce(store.publish(cars, version="3"))
    environment = {**os.environ, **stores.variables(properties)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert f"  3  all rows  s3://models/{unique}/cars/3\n  4  10 % of the keys  s3://" in done.stdout
    after = announced.announced("cars")
    assert (after["3"].is_ready, after["4"].is_ready) == (True, False)
