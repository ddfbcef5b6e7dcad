"""Teaches: the whole life of a model, unattended: drift, retraining, canary, promotion, and a picture of it.

    python examples/python/drift.py --kafka localhost:9092 --mqtt localhost:1883 --registry http://localhost:8081

Simulated cars publish over MQTT; a bridge takes their readings to Kafka; a worker scores them. In the middle of a
drive all cars are updated to a firmware that shifts three sensors: every healthy car looks ill to a model that has only
seen the old one. `retrain.py`, which knows nothing of that, sees to it. At the end the share of anomalies is read back
from the predictions and drawn, and a line of JSON says what happened.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import iotml
import retrain

SCHEMA = Path(__file__).parents[1] / "cars/schema/cardata-v2.avsc"
N_PARTITIONS = 10
#: Messages a second of each car, while it drives and while the history is made that the first model is trained on.
RATE, HISTORY_RATE = 5, 15
#: Simulated seconds between two readings; cars are in balance after some hours, in which they run down and are charged.
TICK_SECONDS, SKIPPED = 30, 400
#: Windows of the watch, seconds; a step of the picture.
WINDOW_S, STEP_S = 5, 2.5
PATIENCE_S = 600


def main() -> None:
    """Run everything, and draw it."""
    options = arguments()
    folder: Path = options.out
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "score.toml"
    config.write_text(scoring(options, folder / f"store-{options.topic}"), encoding="utf-8")
    with ExitStack() as running:
        running.enter_context(iotml.Pipeline.from_toml(text=bridge(options)))
        n_readings = -(-options.rows // options.cars)
        with simulated(options, skip=SKIPPED, rate=HISTORY_RATE, messages=n_readings) as driving:
            if driving.wait(PATIENCE_S):
                raise SystemExit("the cars could not publish")
        topic, store = iotml.ModelTopic.from_toml(config), iotml.ModelStore.from_toml(config)
        history = wait_for_rows(options, n_readings * options.cars)
        topic.announce(retrain.train(options, history, version="1", store=store))
        running.enter_context(process("run", str(config)))
        begin = SKIPPED + n_readings
        updated_at = begin + options.seconds_before * RATE
        n_messages = RATE * PATIENCE_S
        running.enter_context(simulated(options, skip=begin, rate=RATE, messages=n_messages, update_at=updated_at))
        updated = time.time() + options.seconds_before
        retrain.say(f"the cars drive; their firmware is updated in {options.seconds_before} s")
        asked = [f"--{name.replace('_', '-')}={getattr(options, name)}" for name in retrain.LOG_ARGUMENTS]
        script = [sys.executable, str(Path(__file__).with_name("retrain.py")), str(config), *asked, "--times=1"]
        subprocess.run(script, check=True, timeout=PATIENCE_S)
        time.sleep(options.seconds_after)
    found = read_back(options)
    told = summary(found, updated=updated)
    draw(found, told, folder / "drift.png")
    print(json.dumps(told), flush=True)


def simulated(options: argparse.Namespace, *, skip: int, rate: int, messages: int, update_at: int | None = None) -> Any:
    """Let the cars drive on, the same ones each time, from a reading on."""
    fleet = ["--cars", options.cars, "--skip", skip, "--rate", rate, "--messages", messages, "--seed", 5, "--ramp-up", 1]
    drive = ["--fault-share", 0.02, "--tick-seconds", TICK_SECONDS]
    update = [] if update_at is None else ["--update-at", update_at]
    return process("simulate", "mqtt", "--server", options.mqtt, *fleet, *drive, *update)


def wait_for_rows(options: argparse.Namespace, n_rows: int) -> iotml.LogRange:
    """Wait until the bridge has brought everything to the log, and give its range."""
    deadline = time.monotonic() + PATIENCE_S
    log = retrain.cars_log(options)
    while (rows := log.range()).n_offsets < n_rows:
        if time.monotonic() > deadline:
            raise SystemExit(f"the log has {rows.n_offsets} of {n_rows} rows")
        time.sleep(0.5)
    return rows


@contextmanager
def process(*words: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of `iotml` beside this, and stop it as a service manager would."""
    command = [sys.executable, "-m", "iotml", *map(str, words)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**os.environ, "NO_COLOR": "1"}) as running:
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(30)
            except subprocess.TimeoutExpired:
                running.kill()


def read_back(options: argparse.Namespace) -> dict[str, Any]:
    """Read time (seconds since 1970), version and verdict of every prediction."""
    log = iotml.KafkaLog(options.bootstrap, f"{options.topic}-predictions", format="json", progress=False)
    times, versions, anomalies = [], [], []
    for batch in log.batches():
        times.append(batch.timestamps.astype("datetime64[ms]").astype(np.int64) / 1000)
        versions.append(batch["model_version"])
        anomalies.append(batch["anomaly"].astype(bool))
    return {"time": np.concatenate(times), "version": np.concatenate(versions), "anomaly": np.concatenate(anomalies)}


def summary(found: dict[str, Any], *, updated: float) -> dict[str, Any]:
    """Sum up: rows, and shares of anomalies before the update, from it to the canary, and after the promotion."""
    at, version, anomaly = found["time"], found["version"], found["anomaly"]
    last = max(set(version), key=int)
    first_rows = {str(name): float(at[version == name].min()) for name in set(version)}
    old_rows = at[version != last]
    promoted = float(old_rows.max()) if len(old_rows) else float("nan")
    between = (at > updated + 1) & (at < first_rows[last])

    def share(rows: Any) -> float:
        return round(float(anomaly[rows].mean()), 4) if rows.any() else float("nan")

    return {
        "rows": len(at),
        "versions": sorted(map(str, set(version)), key=int),
        "updated": updated,
        "canary": first_rows[last],
        "promoted": promoted,
        "anomalies_before": share(at < updated - 1),
        "anomalies_drifted": share(between),
        "anomalies_after": share(at > promoted),
    }


def draw(found: dict[str, Any], told: dict[str, Any], file: Path) -> None:
    """Draw the share of anomalies over time, by version."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    zero = found["time"].min()
    figure, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    edges = np.arange(0, found["time"].max() - zero + STEP_S, STEP_S)
    for version in told["versions"]:
        mine = found["version"] == version
        at = found["time"][mine] - zero
        rows, _ = np.histogram(at, edges)
        anomalies, _ = np.histogram(at[found["anomaly"][mine]], edges)
        with np.errstate(invalid="ignore", divide="ignore"):
            axes.plot(edges[:-1] + STEP_S / 2, 100 * anomalies / rows, label=f"version {version}")
    for name, words in (("updated", "firmware update"), ("canary", "canary"), ("promoted", "promoted")):
        axes.axvline(told[name] - zero, color="gray", linestyle=":", linewidth=1)
        axes.annotate(
            words, (told[name] - zero, 1), xycoords=("data", "axes fraction"), rotation=90, va="top", ha="right", fontsize=8
        )
    axes.set(xlabel="seconds", ylabel="anomalies, % of the rows", title="Drift, and what a retraining makes of it")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(file, dpi=120)
    retrain.say(f"wrote {file}")


def bridge(options: argparse.Namespace) -> str:
    """From MQTT to Avro in Kafka, keyed by car."""
    kinds = {"int": "int32", "double": "float64", "float": "float32", "string": "utf8"}
    fields = json.loads(SCHEMA.read_text(encoding="utf-8"))["fields"]
    columns = ", ".join(f'{{ name = "{field["name"]}", type = "{kinds[field["type"]]}", nullable = false }}' for field in fields)
    return f"""
[pipeline]
name = "{options.topic}-bridge"

[source]
type = "mqtt"
server = "mqtt://{options.mqtt}"
group = "{options.topic}"
connections = 2
topics = [{{ filter = "vehicles/sensor/data/{{car}}", key = "{{car}}" }}]

[decode]
type = "json"
columns = [{columns}]

[[route]]
name = "avro"

[route.encode]
type = "confluent_avro"
schema_file = "{SCHEMA}"
subject = "{options.topic}-value"
registry = {{ url = "{options.registry}" }}

[route.sink]
type = "kafka"
topic = "{options.topic}"
create_topics = {{ partitions = {N_PARTITIONS} }}
kafka = {{ "bootstrap.servers" = "{options.bootstrap}" }}
"""


def scoring(options: argparse.Namespace, store: Path) -> str:
    """From Kafka to predictions, by the models that are announced, with a watch on their rows."""
    kafka = f'kafka = {{ "bootstrap.servers" = "{options.bootstrap}" }}'
    return f"""
[pipeline]
name = "{options.topic}-score"

[source]
type = "kafka"
topics = ["{options.topic}"]
{kafka}

[decode]
type = "confluent_avro"
registry = {{ url = "{options.registry}" }}

[score]
type = "onnx"

[score.follow]
name = "{options.name}"
store = "{store}"

[score.follow.feed]
type = "kafka"
topic = "{options.topic}-models"
status_topic = "{options.topic}-status"
drift_topic = "{options.topic}-drift"
{kafka}

[score.watch]
window = "{WINDOW_S}s"
min_rows = 1000
windows = 2
# More than by custom: a window here is some hundred cars for a quarter of an hour, so that it differs by chance.
max_psi = 1.0
max_ks = 0.6

[[route]]
name = "predictions"
encode = {{ type = "json", columns = ["score", "anomaly", "model", "model_version"] }}

[route.sink]
type = "kafka"
topic = "{options.topic}-predictions"
create_topics = {{ partitions = {N_PARTITIONS} }}
{kafka}
"""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    retrain.add_log_arguments(parser)
    parser.set_defaults(topic=f"drift-{int(time.time())}", rows=40_000, epochs=30, min_time="15s")
    parser.add_argument("--mqtt", required=True, help="the MQTT broker, host:port")
    parser.add_argument("--cars", type=int, default=300, help="how many cars (default: %(default)s)")
    parser.add_argument("--seconds-before", type=int, default=30, help="of driving before the update (default: %(default)s)")
    parser.add_argument("--seconds-after", type=float, default=20, help="of driving after the promotion (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("drift"), help="folder of store, configuration and picture (default: %(default)s)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
