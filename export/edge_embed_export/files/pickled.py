"""Weights that torch pickled (`pytorch_model.bin`), where torch is installed: read without running what they say.

A pickle can run code when it is read. torch.load(weights_only=True) does not, and does what it does in a process of its
own (unpickling.py), whose result is a safetensors file in a temporary folder.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from edge_embed_export.files.child import last_line, run_alone
from edge_embed_export.files.formats import pickled_weights
from edge_embed_export.files.reading import is_there
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.extras import is_installed
from edge_embed_runtime.system.files import check_regular

# What such files are called, by the name of the safetensors file in whose place they are.
NAMES = {
    "model.safetensors": "pytorch_model.bin",
    "open_clip_model.safetensors": "open_clip_pytorch_model.bin",
    "model.safetensors.index.json": "pytorch_model.bin.index.json",
    "adapter_model.safetensors": "adapter_model.bin",
}
PROGRAM = Path(__file__).with_name("unpickling.py")

Value = TypeVar("Value")


def in_place_of(path: Path) -> Path | None:
    """The pickle that is there in place of a safetensors file, or of an index, which torch can read; None for none."""
    name = NAMES.get(path.name)
    if name is None or is_there(path) or not is_there(path.with_name(name)) or not is_installed("torch"):
        return None
    return path.with_name(name)


def read_pickle(path: Path, read: Callable[[Path], Value]) -> Value:
    """What `read` makes of the pickle's tensors as a safetensors file, which is removed when it returns.

    Raises ExportError for a file that holds anything but tensors by name.
    """
    check_regular(path)
    with tempfile.TemporaryDirectory(prefix="edge-embed-weights-") as work:
        target = Path(work) / "model.safetensors"
        try:
            done = run_alone(PROGRAM, path.resolve(), target, work=work)
        except TimeoutError as error:
            raise ExportError(f"{path}: torch took {error} to read it") from None
        if done.returncode:
            said = last_line(done.stdout or done.stderr)
            raise pickled_weights(path, said or f"status {done.returncode}")
        return read(target)
