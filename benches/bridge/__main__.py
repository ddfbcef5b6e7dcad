"""MQTT QoS 1 to Kafka at full speed: iotml beside Telegraf, in turns, over real brokers. See `benches/README.md`.

    python benches/bridge --worker target/release/worker
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import uuid
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "deploy" / "servers"))

import bridges
import run
from fleet import gather, instance
from fleet.hivemq import HiveMq
from fleet.kafka import Kafka
from fleet.mosquitto import Mosquitto

TELEGRAF = "github.com/influxdata/telegraf/cmd/telegraf@v1.37.2"
TELEGRAF_TAGS = ["custom", "inputs.mqtt_consumer", "outputs.kafka", "parsers.value", "serializers.template"]
# Each broker, the messages that it sends a connection unacknowledged (HiveMQ CE's are fixed), and the connections of a bridge:
# several share the messages where windows are narrow, but not over HiveMQ CE, which hands those out too slowly.
BROKERS = [(Mosquitto(), 20, 8), (Mosquitto("mosquitto-wide", 1000), 1000, 1), (HiveMq(), 50, 1)]


def main() -> None:
    """Runs all and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", type=Path, required=True, help="the worker's binary")
    parser.add_argument("--early", type=Path, help="the binary of a worker that acknowledges early, to tell what late costs")
    parser.add_argument("--messages", type=int, default=300_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--brokers", nargs="*", default=[broker.name for broker, *_ in BROKERS])
    parser.add_argument("--bridges", nargs="*", default=["iotml", "telegraf", "early"])
    arguments = parser.parse_args()
    kafka = Kafka()
    with gather.only_one("servers"):
        for server in [kafka, *(broker for broker, *_ in BROKERS)]:
            server.gather()
        telegraf = gather.go_program("telegraf", TELEGRAF, TELEGRAF_TAGS)
    commands = {
        "iotml": ([arguments.worker.resolve(), "run"], bridges.iotml),
        "telegraf": ([telegraf, "--config"], bridges.telegraf),
        "early": ([arguments.early and arguments.early.resolve(), "run"], bridges.iotml_early),
    }
    names = [name for name in arguments.bridges if name != "early" or arguments.early]
    folder = Path(tempfile.mkdtemp(prefix="iotml-bridge-"))
    (folder / "servers").mkdir()
    fleet = instance.Instance(folder / "servers", [kafka, *(broker for broker, *_ in BROKERS)])
    try:
        fleet.start(["kafka"])
        for broker, window, connections in BROKERS:
            if broker.name not in arguments.brokers:
                continue
            fleet.start([broker.name])
            results = []
            for _ in range(arguments.runs):
                for name in names:
                    results.append(_run(fleet, name, commands[name], (broker.name, window, connections), arguments.messages))
                    print(results[-1].line(), flush=True)
            fleet.stop(broker.name)
            _print_table(broker.name, window, names, results)
    finally:
        for name in fleet.record():
            fleet.stop(name)
    shutil.rmtree(folder)


def _run(fleet, name: str, how: tuple, over: tuple, n_messages: int) -> run.Result:
    record = fleet.record()
    broker, window, connections = over
    mark = uuid.uuid4().hex[:8]
    job = bridges.Job(
        broker=broker,
        mqtt=f"127.0.0.1:{record[broker]['ports']['plain']}",
        topics=f"bench/{mark}",
        kafka=f"127.0.0.1:{record['kafka']['ports']['client']}",
        topic=f"bridge-{mark}",
        window=window,
        connections=connections,
    )
    command, config = how
    pids = {"broker": record[broker]["pid"], "kafka": record["kafka"]["pid"]}
    return run.measure(name, (command, config(job)), job, pids, n_messages, fleet.folder.parent / f"{name}-{mark}")


def _print_table(broker: str, window: int, names: list, results: list) -> None:
    """Medians, and where the time of the cores went."""
    of = {name: [result for result in results if result.bridge == name] for name in names}
    median = {name: lambda get, mine=of[name]: statistics.median(map(get, mine)) for name in names}
    print(f"\n{broker}, window {window}, {results[0].messages} messages, medians of {len(of[names[0]])} runs in turns")
    print("| | k messages/s | CPU us a message | peak MB | cores: bridge / broker / Kafka / publishers / others | twice |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in names:
        get = median[name]
        shares = [
            get(lambda result, part=part: getattr(result, f"{part}_cpu") / result.seconds)
            for part in ("bridge", "broker", "kafka", "load", "other")
        ]
        shares = " / ".join(f"{share:.2f}" for share in shares)
        rate, cpu, peak = get(lambda r: r.rate), get(lambda r: r.cpu), get(lambda r: r.bridge_peak_mb)
        twice = sum(result.duplicates for result in of[name])
        print(f"| {name} | {rate:.1f} | {cpu:.1f} | {peak:.0f} | {shares} | {twice} |")
    for name in names:
        thread = {part: median[name](lambda r, p=part: getattr(r, f"{p}_thread_cpu") / r.seconds) for part in ("bridge", "broker")}
        print(f"{name}: busiest thread of the bridge {thread['bridge']:.2f}, of the broker {thread['broker']:.2f} of a core")
    if "iotml" in median and "telegraf" in median:
        rate = median["iotml"](lambda r: r.rate) / median["telegraf"](lambda r: r.rate)
        cpu = median["iotml"](lambda r: r.cpu) / median["telegraf"](lambda r: r.cpu)
        print(f"iotml / telegraf: rate {rate:.2f}, CPU a message {cpu:.2f}")


if __name__ == "__main__":
    main()
