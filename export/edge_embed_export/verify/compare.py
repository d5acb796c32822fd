"""`--verify`: the float32 form of a bundle compared with the library that its model is used with today.

sentence-transformers, or transformers alone, runs in a process of its own (reference.py), so that torch is never in
the exporter's memory: it embeds the texts of texts.py, and the largest difference goes into the manifest, as
`provenance.verified`. That is {"against": releases, "texts": how many, "largest_difference": x, ...}, or a sentence
that begins with UNVERIFIED and says why.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.files.child import last_line, run_alone
from edge_embed_export.files.reading import is_there, optional_json
from edge_embed_export.modules.folder import Folder
from edge_embed_export.modules.text import release_of
from edge_embed_export.options import ExportOptions
from edge_embed_export.sources.owncode import own_classes
from edge_embed_export.sources.prompts import with_roles
from edge_embed_export.verify.pairs import asked_pairs, compare_pairs, pair_request
from edge_embed_export.verify.texts import PATIENCE, Asked, asked_texts
from edge_embed_runtime.bundle.manifest import Manifest
from edge_embed_runtime.errors import ExportError, FidelityError, MissingExtraError
from edge_embed_runtime.extras import is_installed
from edge_embed_runtime.system.cgroups import memory_limit
from edge_embed_runtime.system.cpu import default_threads
from edge_embed_runtime.system.files import check_regular
from edge_embed_runtime.system.memory import machine_memory
from edge_embed_runtime.vectors.kinds import DENSE, RERANK, Kind

if TYPE_CHECKING:
    from edge_embed_runtime.embed.embedder import Embedder
    from edge_embed_runtime.embed.reranker import Reranker

UNVERIFIED = "not verified against the reference"
# Numbers of vectors of length 1 that differ by more are other vectors.
LARGEST = 1e-3
# Releases of sentence-transformers before this one take white space from the ends of texts.
KEEPS_SPACE = (5, 4)
PROGRAM = Path(__file__).with_name("reference.py")
# Bytes that torch and the libraries around it take besides weights.
LIBRARIES = 2**30


class Unverifiable(Exception):
    """Why a model cannot be compared with the reference."""


@dataclass(frozen=True)
class Verifier:
    """Compares a bundle's float32 form with the reference.

    without: why this source cannot be compared, "" where it can
    """

    source: Path
    options: ExportOptions
    without: str = ""

    def __post_init__(self) -> None:
        if self.options.verify == "require" and not installed():
            raise MissingExtraError(
                "--verify require needs sentence-transformers, or transformers and torch: "
                "pip install 'edge-embed[verify]'",
                package="sentence-transformers",
                extra="verify",
            )
        if self.options.verify == "require" and self.without:
            raise ExportError(f"{self.source} cannot be verified against the reference: {self.without}")

    def __call__(self, embedder: "Embedder | Reranker") -> dict[str, Any] | str:
        """What the manifest says. Raises FidelityError where vectors differ, ExportError where `require` cannot be."""
        if self.options.verify == "skip":
            return f"{UNVERIFIED}: --verify skip"
        try:
            if not installed():
                raise Unverifiable("sentence-transformers and transformers are not installed")
            if self.without:
                raise Unverifiable(self.without)
            return self._compare(embedder)
        except Unverifiable as error:
            if self.options.verify == "require":
                raise ExportError(f"{self.source} cannot be verified against the reference: {error}") from None
            return f"{UNVERIFIED}: {error}"

    def _compare(self, embedder: "Embedder | Reranker") -> dict[str, Any]:
        _check_memory(self.source)
        longest = _longest(embedder.manifest)
        if embedder.output is RERANK:
            return self._compare_pairs(cast("Reranker", embedder), longest)
        embedder = cast("Embedder", embedder)
        side, dense = embedder.manifest.side, embedder.output is DENSE
        roles = (side,) if side else (None, "query", "document") if dense else ("document", "query")
        asked = asked_texts(embedder.tokenizer, roles, longest)
        request = self._request(embedder, asked)
        rows, facts = run_reference(request)
        return self._verdict(request, facts["against"], asked, compare(embedder, asked, rows), longest)

    def _compare_pairs(self, reranker: "Reranker", longest: int) -> dict[str, Any]:
        asked = asked_pairs(reranker, longest)
        request = pair_request(self.source, reranker, asked, self.options)
        rows, facts = run_reference(request)
        return self._verdict(request, facts["against"], asked, compare_pairs(reranker, asked, rows), longest)

    def _verdict(
        self,
        request: dict[str, Any],
        against: str,
        asked: Sequence[Asked],
        differences: Sequence[float | None],
        longest: int,
    ) -> dict[str, Any]:
        compared = [(size, one) for size, one in zip(differences, asked, strict=True) if size is not None]
        if not compared:
            raise Unverifiable("the reference gives no numbers for any text")
        largest, worst = max(compared, key=lambda pair: pair[0])
        if not largest <= LARGEST:
            self._differs(request, against, largest, worst)
        left_out = len(asked) - len(compared)
        return {
            "against": against,
            "texts": len(compared),
            **({"left_out": left_out} if left_out else {}),
            "tokens": longest,
            "largest_difference": float(f"{largest:.2g}"),
        }

    def _request(self, embedder: "Embedder", asked: Sequence[Asked]) -> dict[str, Any]:
        """What reference.py reads."""
        manifest, adapter = embedder.manifest, self.options.adapter
        bare = not is_there(self.source / "modules.json") and manifest.output is DENSE
        said = with_roles(self.options.prompts or {})
        prompts = {
            role: {"text": embedder.prompts.get(role, ""), "said": role in said}
            for role in dict.fromkeys(("query", "document", *filter(None, [manifest.default_role])))
        }
        return {
            "folder": str(self.source.resolve()),
            "kind": manifest.kind,
            "texts": asked,
            "prompts": {role: one for role, one in prompts.items() if one["text"] or one["said"]},
            "default": manifest.default_role,
            "left_out": manifest.left_out,
            "max_tokens": None if embedder.is_static else embedder.max_tokens,
            "limited": self.options.max_tokens is not None,
            "pooling": manifest.pooling if bare or self.options.graph.pooling else None,
            "pooled": manifest.pooling,
            "adapter": None if adapter is None else str(Path(adapter).resolve()),
            "strip": _strips(self.source, embedder),
            "sentence_transformers": is_installed("sentence_transformers"),
            "why": False,
        }

    def _differs(self, request: dict[str, Any], against: str, largest: float, worst: Asked) -> None:
        own = _own_code(self.source)
        if own:
            raise Unverifiable(
                f"the folder has code of its own ({own}), which is never run, and {against} gives other vectors "
                f"without it (by {largest:.2g})"
            )
        _, facts = run_reference({**request, "why": True, "texts": []}, lenient=True)
        if facts.get("missing"):
            raise Unverifiable(f"the reference lacks weights for {', '.join(facts['missing'])}, and makes them up")
        role = "" if worst.role is None else f" as {worst.role:.60}"
        raise FidelityError(
            f"{self.source}: in float32 it gives other vectors than {against}: numbers differ by {largest:.2g}, most "
            f"for the text {worst.text[:60]!r}{role}; nothing was written. Please report it; --verify skip exports it "
            "all the same"
        )


def installed() -> bool:
    """Whether there is a reference to compare with."""
    return is_installed("torch") and is_installed("transformers")


def run_reference(
    request: Mapping[str, Any], *, lenient: bool = False
) -> tuple[list[NDArray[np.float32]], dict[str, Any]]:
    """An array for each text of a request, and what was compared with.

    lenient: no answer is an answer without facts

    Raises Unverifiable with the reason why there is none.
    """
    with tempfile.TemporaryDirectory(prefix="edge-embed-verify-") as work:
        asked, answer = (Path(work) / name for name in ("request.json", "answer"))
        asked.write_text(json.dumps(request), encoding="utf-8")
        try:
            done = run_alone(PROGRAM, asked, answer, work=work, OMP_NUM_THREADS=str(default_threads()))
        except TimeoutError as error:
            raise Unverifiable(f"the reference took {error}") from None
        try:
            facts = json.loads(answer.with_suffix(".json").read_text(encoding="utf-8"))
            with np.load(answer.with_suffix(".npz"), allow_pickle=False) as stored:
                rows = [stored[str(i)] for i in range(len(stored.files))]
        except (OSError, ValueError) as error:
            if lenient:
                return [], {}
            said = f"with status {done.returncode}: {last_line(done.stderr)[:200]}"
            raise Unverifiable(f"the reference ended {said}") from error
    if "reason" in facts and not lenient:
        raise Unverifiable(f"the reference does not load it: {facts['reason']}")
    return rows, facts


def compare(embedder: "Embedder", asked: Sequence[Asked], rows: Sequence[NDArray[np.float32]]) -> list[float | None]:
    """How much the numbers of each text differ at most; None where the reference has none.

    Dense vectors are compared at length 1, weights of tokens as they are; other numbers of vectors are infinitely far.
    """
    return [_difference(_ours(embedder, one), row, embedder.output) for one, row in zip(asked, rows, strict=True)]


def _difference(ours: NDArray[Any], row: NDArray[Any], kind: Kind) -> float | None:
    theirs = row.astype(np.float64)
    if kind is DENSE:
        with np.errstate(invalid="ignore", divide="ignore"):
            theirs = theirs / np.linalg.norm(theirs)
    if not np.isfinite(theirs).all():
        return None
    if ours.shape != theirs.shape:
        return float("inf")
    return float(np.abs(ours - theirs).max(initial=0.0)) if np.isfinite(ours).all() else float("inf")


def _ours(embedder: "Embedder", one: Asked) -> NDArray[Any]:
    (vector,) = embedder.output.encode(embedder, [one.text], role=one.role)
    return embedder.output.array(vector, embedder.manifest.dim)


def _longest(manifest: Manifest) -> int:
    """Tokens of the longest texts that are compared: the limit, or of large models fewer.

    A sum over many thousand rows of a table is not exact in the reference.
    """
    parts = manifest.architecture
    size = max(1, int(parts.get("layers", 0) or 1) * int(parts.get("hidden", 0) or 256) ** 2 * 12)
    least = 512
    if manifest.is_static:
        return min(manifest.max_tokens, least)
    return int(max(min(manifest.max_tokens, least), min(manifest.max_tokens, PATIENCE // size)))


def _strips(source: Path, embedder: "Embedder") -> bool:
    """Whether white space at the ends of texts is to be taken away: by the release that wrote the folder, else by what
    the bundle does."""
    release = release_of(Folder(source))
    if release is not None:
        return release < KEEPS_SPACE
    return bool(np.array_equal(embedder.tokenizer.encode("a\n"), embedder.tokenizer.encode("a")))


def _own_code(source: Path) -> str:
    """What of a folder's own code makes its vectors: "modeling.NewModel"."""
    config = optional_json(source / "config.json")
    return next(own_classes(config, "AutoModel", "TFAutoModel", "FlaxAutoModel"), "")


def _check_memory(source: Path) -> None:
    """Raise Unverifiable where the reference has no room next to the exporter; check_regular's error for a pipe."""
    size = 0
    for path in source.rglob("*"):
        if path.is_dir():
            continue
        check_regular(path)  # the libraries open what they find
        if path.suffix in (".safetensors", ".bin", ".pt"):
            size += path.stat().st_size
    needed, room = 2 * size + LIBRARIES, _room()
    if room is not None and needed > room:
        raise Unverifiable(f"it would take about {needed / 2**30:.0f} GiB of memory, and there are {room / 2**30:.0f}")


def _room() -> int | None:
    """Bytes that another process can have, or None where that is unknown."""
    free = machine_memory().available
    return None if free is None else min(free, memory_limit() or free)
