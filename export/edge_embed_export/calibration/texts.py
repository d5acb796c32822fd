"""The texts that ship with the exporter: a model is calibrated on some of them and judged by others."""

import gzip
import json
from importlib.resources import files
from typing import Any

from edge_embed_runtime.inputs.tokenizer import TokenIds, Tokenizer


def calibration_texts(part: str) -> list[str]:
    """Texts that ship with the exporter; `part` is "calibration" or "receipt" (no text is in both)."""
    return [record["text"] for record in records("texts") if record["part"] == part]


def calibration_rows(tokenizer: Tokenizer) -> list[TokenIds]:
    return [tokenizer.encode(text) for text in calibration_texts("calibration")]


def records(name: str) -> list[dict[str, Any]]:
    """The rows of one of the exporter's data files."""
    raw = files("edge_embed_export").joinpath(f"data/{name}.jsonl.gz").read_bytes()
    return [json.loads(line) for line in gzip.decompress(raw).decode().splitlines()]
