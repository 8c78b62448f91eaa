"""Reads what W&B has stored of a run without network: a log in LevelDB's format, of protobuf messages."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

HEAD, BLOCK, RECORD_HEAD = 7, 32768, 7
WHOLE, LAST = 1, 4  # other parts of a record have their end in another block


def records(file: Path) -> Iterator[Record]:
    content, position, parts = file.read_bytes(), HEAD, b""
    assert content.startswith(b":W&B")
    while position < len(content):
        left = BLOCK - position % BLOCK
        if left < RECORD_HEAD:  # filled with zeros
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        position += RECORD_HEAD
        parts += content[position : position + length]
        position += length
        if kind in (WHOLE, LAST):
            yield Record.FromString(parts)
            parts = b""


class Stored:
    """One opening of a W&B run: its record, configuration, history, artifacts by type, and all of it as text."""

    def __init__(self, file: Path) -> None:
        self.config: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.metrics: dict[str, Any] = {}
        self.artifacts: dict[str, list[Any]] = {}
        self.environment: list[Any] = []
        self.exit_code: int | None = None
        found = list(records(file))
        self.text = "\n".join(map(str, found))
        for record in found:
            match record.WhichOneof("record_type"):
                case "run":
                    self.run = record.run
                case "config":
                    self.config |= {item.key: json.loads(item.value_json) for item in record.config.update}
                case "history":
                    self.history.append(
                        {".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
                    )
                case "metric":
                    self.metrics[record.metric.name or record.metric.glob_name] = record.metric
                case "artifact":
                    self.artifacts.setdefault(record.artifact.type, []).append(record.artifact)
                case "environment":
                    self.environment.append(record.environment)
                case "exit":
                    self.exit_code = record.exit.exit_code

    @property
    def names(self) -> set[str]:
        """What was logged."""
        return {name for row in self.history for name in row}

    def steps(self, name: str) -> list[int]:
        """When a number was logged."""
        return [row["trainer/global_step"] for row in self.history if name in row]


def stored(folder: Path) -> list[Stored]:
    """The openings of the W&B run of a run folder, the earliest first."""
    return [Stored(file) for file in sorted(folder.glob("wandb/*run-*/*.wandb"))]
