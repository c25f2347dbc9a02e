"""Rows of the tables of results, from what was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fedsim.config import Config
from fedsim.engine._types import PieceSums, total
from fedsim.engine._world import Report
from fedsim.settings import LogSettings
from results.fairness import MEASURES, over_clients

_EVALUATION_COLUMNS = {"mean": "accuracy", "expected": "accuracy_expected", "sampled": "accuracy_sampled"}


@dataclass(frozen=True)
class RoundOutcome:
    """Rows of the ``rounds`` and ``clients`` tables, and after the last round of ``classes``, without ``run_id``."""

    round: dict[str, Any]
    clients: list[dict[str, Any]]
    classes: list[dict[str, Any]] = field(default_factory=list)


def run_row(config: Config, started_at: datetime) -> dict[str, Any]:
    """Columns of the ``runs`` table that are known of every run from its start."""
    stored = config.model_dump(mode="json", exclude={"log"} if config.log == LogSettings() else None)
    return {
        "run_id": config.run_id,
        "method": config.method.name,
        "dataset": config.data.name,
        "backbone": config.model.name,
        "partition": config.partition.name,
        "alpha": getattr(config.partition, "alpha", None),
        "clients": config.partition.clients,
        "participation": config.participation,
        "rounds": config.rounds,
        "seed": config.seed,
        "config": json.dumps(stored),
        "started_at": started_at,
    }


def client_row(round_index: int, report: Report, dimension: int, decode_seconds: float) -> dict[str, Any]:
    """A row of the ``clients`` table, without ``run_id``."""
    upload = report.upload
    size = len(upload.update.payload)
    return {
        "round": round_index,
        "client": upload.client,
        "samples": upload.samples,
        "payload_bytes": size,
        "downlink_bytes": report.downlink_bytes,
        "uplink_bpp": 8 * size / dimension,
        "delta_size": upload.update.delta_size,
        "sent_size": upload.update.sent_size,
        "train_loss": upload.train_loss,
        "train_seconds": upload.train_seconds,
        "encode_seconds": upload.encode_seconds,
        "decode_seconds": decode_seconds,
        "staleness": round_index - report.start,
        **report.columns(),
        "attempt": upload.attempt,
        **(upload.held_out.columns() if upload.held_out else {}),
    }


def lost_row(round_index: int, report: Report, error: str) -> dict[str, Any]:
    """The same of a client that was asked and whose upload does not count."""
    upload = report.upload
    return {
        "round": round_index,
        "client": upload.client,
        "samples": upload.samples,
        "payload_bytes": len(upload.update.payload) if report.sent and report.lost is not None else 0,
        "downlink_bytes": report.downlink_bytes,
        "train_seconds": upload.train_seconds,
        "encode_seconds": 0.0,
        "decode_seconds": 0.0,
        "staleness": round_index - report.start,
        **report.columns(),
        "attempt": upload.attempt,
        "error": error,
    }


def totals(clients: list[dict[str, Any]], dimension: int, flips: list[int]) -> dict[str, Any]:
    """Columns of the ``rounds`` table that are sums over its clients.

    Args:
        clients: rows of :func:`client_row` and :func:`lost_row`.
        dimension: number of masked parameters d.
        flips: mask bits that the server flipped, false ones included, by client; empty where nothing flips.
    """
    counted = [row for row in clients if "error" not in row]
    participants = len(counted)
    uplink, downlink = (sum(row[column] for row in clients) for column in ("payload_bytes", "downlink_bytes"))
    return {
        "participants": participants,
        "lost_clients": len(clients) - participants,
        "retries": sum(row["attempt"] - 1 for row in clients),
        "uplink_bytes": uplink,
        "downlink_bytes": downlink,
        "uplink_bpp": 8 * uplink / participants / dimension,
        "downlink_bpp": 8 * downlink / len(clients) / dimension,
        "staleness": sum(row["staleness"] for row in counted) / participants,
        "flips": sum(flips) if flips else None,
        "false_flips": sum(flips) - sum(row["sent_size"] for row in counted) if flips else None,
        **{c: sum(row[c] for row in clients) for c in ("train_seconds", "encode_seconds", "decode_seconds")},
    }


def fairness_columns(clients: list[dict[str, Any]]) -> dict[str, float]:
    """Columns of the ``rounds`` table about how its clients fare, from rows of :func:`client_row`."""
    columns: dict[str, float] = {}
    for name in MEASURES:
        if accuracies := [row[name] for row in clients if row.get(name) is not None]:
            columns |= {f"{name}_{key}": value for key, value in over_clients(accuracies).items()}
    return columns


def class_rows(test: list[PieceSums], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the ``classes`` table, without ``run_id``; none where the sums do not tell classes apart."""
    sums = total(test, "mean")
    return [
        {
            "class": index,
            "class_name": str(classes[index]),
            "samples": samples,
            "correct": correct,
            "accuracy": correct / samples if samples else None,
        }
        for index, (samples, correct) in enumerate(zip(sums.of_classes, sums.correct_of_classes, strict=True))
    ]


def evaluation_columns(test: list[PieceSums], validation: list[PieceSums]) -> dict[str, float]:
    """Columns of the ``rounds`` table from the sums over all pieces of the two splits; the second may have none."""
    columns: dict[str, float] = {}
    for name in test[0]:
        sums = total(test, name)
        columns[_EVALUATION_COLUMNS[name]] = sums.correct / sums.samples
        if name == "mean":
            columns["loss"] = sums.loss / sums.samples
    if validation:
        sums = total(validation, "mean")
        columns |= {"validation_accuracy": sums.correct / sums.samples, "validation_loss": sums.loss / sums.samples}
    return columns
