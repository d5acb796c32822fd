"""Instructions of a 12-token query on ARM in other runtimes, to compare with the last columns of TABLE.md:

    python tests/whole/devices/peers.py WORK [--cpu cortex-a72] [--bed FOLDER]

WORK is the folder in which `python -m bench.encode --work WORK --peers ctranslate2-int8,optimum-int8`
keeps the peers' models of all-MiniLM-L6-v2. Each runs on one thread, tokenizing and mean pooling included.
"""

# ruff: noqa: T201 - a script prints
import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

from probe import QUERIES  # noqa: E402 - beside this file, wherever it is started

PEERS = {"CTranslate2 int8": "ctranslate2-*", "optimum int8": "onnx-int8-*", "ONNX fp32": "onnx-[!i]*"}
CPUS = ("cortex-a72", "cortex-a76", "neoverse-n2")


def onnx_model(folder: Path) -> Callable[[Any], Any]:
    """Ids [tokens] -> states [tokens, dim], by onnxruntime."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    names = {one.name for one in session.get_inputs()}

    def run(ids: Any) -> Any:
        row = np.array([ids], np.int64)
        all_inputs = {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}
        given = {name: value for name, value in all_inputs.items() if name in names}
        return session.run(None, given)[0][0]

    return run


def ctranslate2_model(folder: Path) -> Callable[[Any], Any]:
    """The same by CTranslate2."""
    import ctranslate2
    import numpy as np

    encoder = ctranslate2.Encoder(str(folder), compute_type="int8", inter_threads=1, intra_threads=1)
    return lambda ids: np.array(encoder.forward_batch([list(ids)]).last_hidden_state)[0]


def queries(folder: Path, tokenizer: Path, count: int) -> None:
    """So many queries one by one, on the device."""
    from tokenizers import Tokenizer

    model = ctranslate2_model(folder) if (folder / "model.bin").exists() else onnx_model(folder)
    parsed = Tokenizer.from_str(tokenizer.read_text(encoding="utf-8"))
    parsed.no_padding()
    for text in QUERIES[:count]:
        vector = model(parsed.encode(text).ids).mean(axis=0)
        vector /= (vector @ vector) ** 0.5


def made(work: Path, pattern: str) -> Path:
    """The folder of a peer's model. SystemExit where it was not converted yet."""
    for folder in sorted(work.glob(pattern)):
        if not folder.name.endswith(".partial"):
            return folder
    raise SystemExit(f"{work} has no {pattern}: run python -m bench.encode --work {work}")


def count(work: Path, cpus: list[str], place: Path) -> None:
    """Millions of instructions of a query, a row for each CPU."""
    import counting
    from bed import Bed, run

    bed = Bed(place, lambda line: print(line, file=sys.stderr))

    def install(part: Path) -> None:
        tags = [word for minor in range(17, 35) for word in ("--platform", f"manylinux_2_{minor}_aarch64")]
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:", "--target", part]
        run([*pip, "--python-version", "3.11", *tags, "ctranslate2", "setuptools<81", "pyyaml"])

    packages = bed.part("peers-aarch64", install)
    folders = {name: made(work, pattern) for name, pattern in PEERS.items()}
    tokenizer = made(work, "onnx-[!i]*") / "tokenizer.json"
    environment = {**bed.environment(None), "PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1"}
    for cpu in cpus:
        command = bed.command(cpu, "aarch64", "3.11", counting.emulator(bed, "aarch64"))
        for name, folder in folders.items():
            words = [*command, str(HERE / "peers.py"), "--run", str(folder), str(tokenizer)]
            found = counting.per_query(lambda n, words=words: counting.emulated([*words, str(n)], environment))
            print(f"{cpu} {name}: {found / 1e6:.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--cpu", action="append", choices=CPUS)
    parser.add_argument("--bed", type=Path, default=Path.home() / ".cache/edge_embed/devices")
    given = parser.parse_args()
    count(given.work, given.cpu or list(CPUS), given.bed.resolve())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        queries(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
