"""Weights that torch pickled, as a safetensors file: a program that pickled.py runs in a process of its own.

    python -P unpickling.py PYTORCH_MODEL.BIN OUT.safetensors

torch.load(weights_only=True) runs no code of the file. Tensors are written one after the other, so that the process has
the pages of the file and one tensor.
"""

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def main() -> None:
    source, target = map(Path, sys.argv[1:3])
    try:
        write(load(source), target)
    except Exception as error:  # noqa: BLE001 - whatever torch raises is why it cannot be read
        sys.stdout.write(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        sys.exit(3)


def load(source: Path) -> dict[str, Any]:
    """Tensors by name. Raises TypeError for anything else in the file, and what torch raises."""
    torch: Any = importlib.import_module("torch")
    options = {"map_location": "cpu", "weights_only": True}
    try:
        found = torch.load(source, mmap=True, **options)
    except RuntimeError:  # files of torch before 1.6 cannot be mapped
        found = torch.load(source, **options)
    if not isinstance(found, Mapping):
        raise TypeError(f"it holds {type(found).__name__}, expected tensors by name")
    odd = next((name for name, value in found.items() if not isinstance(value, torch.Tensor)), None)
    if odd is not None:
        raise TypeError(f"{odd!r:.60} is {type(found[odd]).__name__}, expected a tensor")
    return {str(name): value for name, value in found.items()}


def write(tensors: Mapping[str, Any], target: Path) -> None:
    """A safetensors file: the length of its header, the header, numbers."""
    torch: Any = importlib.import_module("torch")
    kinds = {
        torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
        torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
    }  # fmt: skip
    header: dict[str, Any] = {}
    place = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in kinds or tensor.layout != torch.strided:
            raise TypeError(f"{name!r:.60} has numbers of type {tensor.dtype}, {tensor.layout}")
        end = place + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": kinds[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with target.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            if tensor.numel():
                file.write(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())


if __name__ == "__main__":
    main()
