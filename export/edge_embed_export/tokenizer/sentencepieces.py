"""Tokenizers of folders that hold a file of sentencepiece and no tokenizer.json: converted by transformers itself.

It runs in a process of its own (`python -m edge_embed_export.tokenizer.sentencepieces FOLDER OUTPUT`):
transformers is large, and
a damaged file may end the process that reads it. No code of the folder is run.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from edge_embed_export.tokenizer.definition import read_definition
from edge_embed_runtime.errors import ExportError, MissingExtraError
from edge_embed_runtime.extras import is_installed, require
from edge_embed_runtime.system.files import check_regular

# What such files are called, by the classes that have them.
NAMES = ("sentencepiece.bpe.model", "spiece.model", "spm.model", "sentencepiece.model", "tokenizer.model")
NEEDED = ("transformers", "sentencepiece", "google.protobuf")
# Seconds; the largest known, of 256,000 tokens, takes 20.
PATIENCE = 600
FAILED = 3


def convert(folder: Path, file: str) -> tuple[dict[str, Any], str]:
    """The tokenizer that transformers makes of a folder, and the release that made it.

    Raises MissingExtraError without transformers or sentencepiece, ExportError for a file that they cannot read.
    """
    for package in NEEDED:
        try:
            require(package, "general") if not is_installed(package) else None
        except MissingExtraError as error:
            raise MissingExtraError(f"{folder / file} is converted by transformers, so {error}") from error
    for path in folder.iterdir():
        if path.exists() and not path.is_dir():
            check_regular(path)  # transformers opens what it finds
    with tempfile.TemporaryDirectory() as place:
        made = Path(place) / "tokenizer.json"
        command = [
            sys.executable,
            "-m",
            "edge_embed_export.tokenizer.sentencepieces",
            str(folder.absolute()),
            str(made),
        ]
        environment = _environment()
        try:
            run = subprocess.run(  # noqa: S603 - our own module
                command,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
                env=environment,
                errors="replace",
            )
        except subprocess.TimeoutExpired as error:
            raise ExportError(f"{folder / file}: transformers took over {PATIENCE} seconds to convert it") from error
        if run.returncode:
            lines = run.stdout.strip() if run.returncode == FAILED else f"its process ended with {run.returncode}"
            raise ExportError(f"{folder / file}: transformers cannot convert it: {lines or 'no reason given':.300}")
        return read_definition(made), run.stdout.strip().splitlines()[-1]


def _environment() -> dict[str, str]:
    """Ours, with the folders that this process imports from, and without the network."""
    import os

    paths = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def _main(folder: str, output: str) -> int:
    """Write the tokenizer of a folder as tokenizer.json, and say which transformers made it, or why it cannot."""
    import contextlib
    import io
    import warnings

    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        try:
            transformers = require("transformers", "general")
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True
            )
            backend = getattr(tokenizer, "backend_tokenizer", None)
            failure = "" if backend is not None else f"{type(tokenizer).__name__} is written in Python"
            if backend is not None:
                Path(output).write_text(json.dumps(json.loads(backend.to_str()), ensure_ascii=False), encoding="utf-8")
        except Exception as error:  # what it raises has no common type  # noqa: BLE001
            failure = f"{type(error).__name__}: {error}"
    sys.stdout.write(" ".join(failure.split()) or transformers.__version__)
    return FAILED if failure else 0


if __name__ == "__main__":
    raise SystemExit(_main(*sys.argv[1:]))
