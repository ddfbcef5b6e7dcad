"""The picture of a comparison of models, drawn by matplotlib from the report of `model compare`."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from iotml.train.optional import needed

_COLOURS = ["#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b7791f", "#1a202c"]

_Draw = Callable[[Any, Mapping[str, Any], Sequence[Mapping[str, Any]]], None]
"""Draws one panel of a report, of those of its versions that have rows."""


def draw(report: Mapping[str, Any], path: str | Path, *, title: str = "") -> Path:
    """Write a PNG file of a report, which is what `model compare --json` writes; needs matplotlib.

    Its panels show, for each version: the distribution of its scores, its share of anomalies with the 95 % interval, and, where
    they are known, its agreement with what acted, its precision and recall, and how long its rows took.
    """
    figure_module = needed("matplotlib.figure", purpose="plotting a comparison", install="iotml[plot]")
    versions = [version for version in report["versions"] if version["n_rows"]]
    panels: list[_Draw] = [_draw_scores, _draw_anomalies]
    if report["shadows"]:
        panels.append(_draw_agreement)
    if any(version["labelled"] for version in versions):
        panels.append(_draw_labels)
    if any(version["latency_ms"] for version in versions):
        panels.append(_draw_latency)
    # No pyplot: it would keep the figure, and want a display in some settings.
    figure = figure_module.Figure(figsize=(4.6 * len(panels), 4.2), layout="constrained")
    for panel, drawn in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        drawn(panel, report, versions)
    figure.suptitle(title or f"{report['model']}: {report['n_rows']} predictions")
    figure.savefig(path, format="png", dpi=120)
    return Path(path)


def compare(words: Sequence[str], run: Callable[[list[str]], int]) -> int:
    """Do what `words` of the command line say by `run`, and draw what it found into the file of `--png`."""
    parser = argparse.ArgumentParser("iotml model compare", add_help=False, allow_abbrev=False)
    parser.add_argument("--png", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    known, rest = parser.parse_known_args(words)
    if str(known.json) == "-":
        parser.error("--png does not go with --json -; name a file")
    needed("matplotlib.figure", purpose="plotting a comparison", install="iotml[plot]")
    with tempfile.TemporaryDirectory() as folder:
        report = known.json or Path(folder) / "report.json"
        code = run([*rest, "--json", str(report)])
        if code != 0:
            return code
        text = report.read_text()
    draw(json.loads(text), known.png)
    return 0


def _name(version: Mapping[str, Any]) -> str:
    rollout = "shadow" if version["shadow"] else version["rollout"]
    return f"{version['version']} ({rollout})" if rollout else str(version["version"])


def _draw_scores(panel: Any, _: Mapping[str, Any], versions: Sequence[Mapping[str, Any]]) -> None:
    lines = [(version, np.asarray(version["score_percentiles"], float)) for version in versions]
    lines = [(version, scores) for version, scores in lines if len(scores)]
    everything = np.concatenate([scores for _, scores in lines]) if lines else np.zeros(0)
    positive = everything[everything > 0]
    # Reconstruction errors span decades; scores that may be negative do not.
    is_logarithmic = len(positive) > 0 and everything.min() >= 0 and positive.max() / positive.min() > 100
    for at, (version, scores) in enumerate(lines):
        shown = np.maximum(scores, positive.min()) if is_logarithmic else scores
        style = "--" if version["shadow"] else "-"
        panel.plot(shown, np.arange(101), style, color=_colour(at), label=f"{_name(version)}, {version['n_rows']} rows")
    if is_logarithmic:
        panel.set_xscale("log")
    panel.set(xlabel="score", ylabel="percent of the rows below", title="Scores")
    if lines:
        panel.legend(fontsize="small")


def _draw_anomalies(panel: Any, _: Mapping[str, Any], versions: Sequence[Mapping[str, Any]]) -> None:
    judged = [version for version in versions if version["anomaly_rate"] is not None]
    rates = 100 * np.asarray([version["anomaly_rate"] for version in judged], float)
    ends = 100 * np.asarray([version["anomaly_rate_interval"] for version in judged], float).reshape(-1, 2)
    spread = np.clip(np.stack([rates - ends[:, 0], ends[:, 1] - rates]), 0, None)
    colours = [_colour(versions.index(version)) for version in judged]
    panel.bar([_name(version) for version in judged], rates, yerr=spread, capsize=4, color=colours)
    panel.set(ylabel="percent of the rows", title="Anomalies, with 95 % intervals")


def _draw_agreement(panel: Any, report: Mapping[str, Any], _: Sequence[Mapping[str, Any]]) -> None:
    shadows = [shadow for shadow in report["shadows"] if shadow["n_judged"]]
    names = [f"{shadow['shadow']} beside {shadow['acting']}" for shadow in shadows]
    parts = [
        ("both", "n_both", _COLOURS[1]),
        ("only what acts", "n_only_acting", _COLOURS[0]),
        ("only the shadow", "n_only_shadow", _COLOURS[3]),
    ]
    below = np.zeros(len(shadows))
    for label, key, colour in parts:
        share = np.asarray([100 * shadow[key] / shadow["n_judged"] for shadow in shadows])
        panel.bar(names, share, bottom=below, label=label, color=colour)
        below = below + share
    for at, shadow in enumerate(shadows):
        panel.annotate(f"{100 * shadow['agreement']:.2f} %\nagree", (at, below[at]), ha="center", va="bottom", fontsize="small")
    panel.set(ylabel="percent of the rows", title="Seen as anomalies", ylim=(0, max(below, default=0) * 1.3 or 1))
    panel.legend(fontsize="small", loc="upper right")


def _draw_labels(panel: Any, _: Mapping[str, Any], versions: Sequence[Mapping[str, Any]]) -> None:
    known = [version for version in versions if version["labelled"]]
    places = np.arange(len(known))
    for at, key in enumerate(("precision", "recall", "f1")):
        values = [version["labelled"][key] or 0.0 for version in known]
        panel.bar(places + 0.27 * (at - 1), values, 0.25, label="F1" if key == "f1" else key, color=_colour(at))
    panel.set_xticks(places, [f"{_name(version)}\n{version['labelled']['n']} labels" for version in known])
    panel.set(ylim=(0, 1.15), title="Precision and recall")
    panel.legend(fontsize="small", ncols=3, loc="upper center")


def _draw_latency(panel: Any, _: Mapping[str, Any], versions: Sequence[Mapping[str, Any]]) -> None:
    known = [version for version in versions if version["latency_ms"]]
    places = np.arange(len(known))
    for at, (key, label) in enumerate((("p50", "median"), ("p99", "99 %"))):
        values = [max(version["latency_ms"][key], 0.0) for version in known]
        panel.bar(places + 0.4 * (at - 0.5), values, 0.38, label=label, color=_colour(at))
    panel.set_xticks(places, [_name(version) for version in known])
    highest = max((version["latency_ms"]["p99"] for version in known), default=0.0)
    panel.set(ylabel="milliseconds", title="From a row's event to its prediction", ylim=(0, max(highest, 1.0) * 1.2))
    panel.legend(fontsize="small", ncols=2, loc="upper center")


def _colour(at: int) -> str:
    return _COLOURS[at % len(_COLOURS)]
