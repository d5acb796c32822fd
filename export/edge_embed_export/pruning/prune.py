"""A bundle with fewer tokens: those of chosen scripts or languages, those that texts hold, or the most frequent.

Rows that stay keep their bits, so that a text whose tokens all stay has the same vector, bit for bit. Other texts are
taken apart into smaller pieces; the receipt says how many, and how far their vectors moved.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.calibration.texts import calibration_texts
from edge_embed_export.pruning.rows import Ids, cut_model, cut_table
from edge_embed_export.pruning.scripts import COMMON, check_scripts, script_of, scripts_of_languages
from edge_embed_export.pruning.vocabulary import Vocabulary
from edge_embed_export.receipt.dense import DenseReceipt
from edge_embed_export.receipt.finish import GOLDEN_TEXTS
from edge_embed_runtime.bundle.bundle import Bundle, Copied, file_records, read_bundle, write_bundle
from edge_embed_runtime.bundle.manifest import ONNXRUNTIME, TOKENIZER, Manifest
from edge_embed_runtime.checks import check_count, listed
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.errors import ExportError, FidelityError, InputError
from edge_embed_runtime.inputs.tokenizer import Tokenizer
from edge_embed_runtime.model.static import read_table

# The lowest mean cosine to the bundle as it was that is written unless the caller says otherwise.
FLOOR = 0.99
# Of texts alone, a script counts as theirs when it has this share of their letters: single characters of it all stay.
SCRIPT_SHARE = 0.01
# Every tenth text chooses no tokens for the receipt, which is measured on these; of fewer texts all are measured.
HELD_OUT, LEAST_TEXTS = 10, 100
MEASURED_TEXTS = 500
# Characters that are taken apart at a time: tokenizers needs a hundred bytes for each.
BLOCK = 20_000
# Bundles that need their tokens' numbers for more than rows of a table.
UNPRUNED = {
    "sparse": "the vectors of a sparse bundle are weights of its tokens",
    "multi": "a bundle with a vector for each token names tokens of queries by their numbers",
    "characters": "this bundle reads characters, not tokens",
}
ASCII = {chr(code) for code in range(33, 127)}


@dataclass(frozen=True)
class Choice:
    """What is to stay.

    scripts:   tokens of these alone; empty means any
    min_count: of texts, tokens that come at least so often
    keep:      at most so many tokens in all, the most frequent
    """

    scripts: Sequence[str] = ()
    min_count: int = 1
    keep: int | None = None


@dataclass(frozen=True)
class Corpus:
    """What texts say: how often each token comes [vocab], and how many letters of each script."""

    counts: NDArray[np.int64]
    letters: Counter[str]

    def __add__(self, other: "Corpus") -> "Corpus":
        return Corpus(self.counts + other.counts, self.letters + other.letters)

    @property
    def scripts(self) -> list[str]:
        """Those that the texts are written in, without what they quote."""
        return [script for script, count in self.letters.items() if count >= SCRIPT_SHARE * self.letters.total()]


def prune_bundle(
    bundle: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    languages: Sequence[str] = (),
    scripts: Sequence[str] = (),
    texts: Sequence[str] = (),
    texts_name: str = "",
    min_count: int = 1,
    keep: int | None = None,
    floor: float | None = None,
    name: str | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Write a bundle that has a part of another's vocabulary.

    languages: ISO 639-1 codes; tokens of the scripts they are written in stay ("de" and "en" are both Latin)
    scripts:   names as Unicode has them ("Latin", "Cyrillic"), besides those of the languages
    texts:     tokens that come in these stay, and single characters of the scripts, which stand in for the others
    min_count: only tokens that come at least so often in the texts
    keep:      at most so many tokens: the most frequent in the texts, or else the first in the vocabulary's order
    floor:     the lowest mean cosine to the vectors as they were that is accepted; None means FLOOR

    Digits, punctuation, emoji, ASCII characters, added tokens and what prompts hold always stay.

    Raises InputError for what cannot be meant, ExportError for a bundle whose vocabulary cannot be pruned,
    FidelityError (an ExportError) below the floor. Nothing is written then.
    """
    target = Path(out)
    if (target.exists() or target.is_symlink()) and not overwrite:
        raise InputError(
            f"{target} exists; choose another path, or replace it with --force (overwrite=True)",
            path=target,
            code="output_exists",
        )
    groups = [*(scripts_of_languages([code]) for code in languages), *([script] for script in check_scripts(scripts))]
    wanted = list(dict.fromkeys(script for group in groups for script in group))
    given = [text for text in dict.fromkeys(texts) if text.strip()]
    if texts_name and not given:
        raise InputError(f"{texts_name} holds no text")
    if not (wanted or given or keep):
        raise InputError("nothing says which tokens are to stay: give languages, scripts, texts or how many to keep")
    choice = Choice(wanted, check_count(min_count, "min_count", 1), keep)
    source = _Source(read_bundle(bundle))
    source.check_letters(groups)
    progress("choosing tokens")
    held = given[::HELD_OUT] if len(given) >= LEAST_TEXTS else []
    read = source.read([text for i, text in enumerate(given) if not held or i % HELD_OUT])
    kept = source.choose(choice, read + source.read(held))
    if len(kept) == source.size:
        raise InputError(f"{source.bundle.path}: all of its {source.size} tokens would stay: nothing was written")
    progress("measuring")
    before = Embedder(source.bundle, threads=1)
    if before.engine_reason:
        raise ExportError(
            f"{source.bundle.path} is made for the native engine, which makes the golden vectors of the pruned bundle "
            f"too, but {before.engine_reason}"
        )
    learned = source.choose(choice, read) if held else kept
    measured = spread(held or given or _texts_in(wanted), MEASURED_TEXTS)
    receipt = _compare(before, source, learned, measured)
    _check_floor(receipt, floor, f"{source.bundle.path}: with {len(kept)} of {source.size} tokens")
    after, contents = source.embedder(kept, before)
    _check_same(before, after, source, kept, [*GOLDEN_TEXTS, *measured])
    where = f"{texts_name}{', texts that chose no tokens' * bool(held)}" if given else "the exporter's texts"
    notes = {
        "languages": list(languages),
        "scripts": wanted,
        "texts": _digest(texts_name, given),
        "min_count": min_count if given else None,
        "keep": keep,
    }
    receipt = {"vocabulary": {"before": source.size, "after": len(kept)}, "measured_on": where, **receipt}
    manifest = replace(_described(before, after, receipt, notes), name=name or target.absolute().name)
    progress(f"writing {target}")
    write_bundle(target, manifest, {**contents, **source.towers}, overwrite=overwrite)
    return manifest


def _check_floor(receipt: dict[str, Any], floor: float | None, what: str) -> None:
    lowest = FLOOR if floor is None else floor
    if not receipt["texts"]:
        if floor is not None:
            raise InputError("no texts in these scripts come with the exporter: a floor needs texts")
        return
    reached = receipt["cosine_to_unpruned"]["mean"]
    if not reached >= lowest:
        raise FidelityError(
            f"{what} the mean cosine to the vectors as they were is {reached}, the floor is {lowest}; nothing was "
            "written. A lower floor accepts it, more texts or a lower min_count keep more tokens",
            cosine=reached,
            floor=lowest,
        )


def _described(before: Embedder, after: Embedder, receipt: dict[str, Any], notes: dict[str, Any]) -> Manifest:
    """The manifest with golden texts, the figures of the pruned bundle, and what it was made of."""
    old, new = before.manifest, after.manifest
    golden = DenseReceipt().golden(after, GOLDEN_TEXTS)
    sizes = {"before": _bytes(old), "after": _bytes(new)}
    made_of = {
        "name": old.name,
        "fingerprint": old.fingerprint,
        **notes,
        "pruned_from": old.provenance.get("pruned_from"),
    }
    return replace(
        new,
        golden=golden,
        receipt={
            "bytes": sizes["after"],
            "pruning": {"bytes": sizes, **receipt},
            "before_pruning": old.receipt,
        },
        provenance={**old.provenance, "pruned_from": {key: value for key, value in made_of.items() if value}},
    )


class _Source:
    """A bundle whose tokens are chosen from."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        if not bundle.manifest.has_text:
            raise ExportError(
                f"{bundle.path} has no model for texts, and so no vocabulary: it has one for "
                f"{listed(bundle.manifest.towers)}"
            )
        named = "characters" if bundle.manifest.inputs else bundle.manifest.kind
        if named in UNPRUNED:
            raise ExportError(f"{bundle.path}: {UNPRUNED[named]}: its vocabulary cannot be pruned")
        try:
            self.vocabulary = Vocabulary(bundle.tokenizer)
        except ExportError as error:
            raise ExportError(f"{bundle.path}: {error}") from None
        self.tokenizer = Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens)
        self.size = len(self.vocabulary.ids)

    @property
    def towers(self) -> dict[str, Copied]:
        """The files of its models for other inputs, which stay as they are."""
        manifest = self.bundle.manifest
        names = [name for modality in manifest.towers for name in manifest.large_files(modality)]
        return {name: Copied(self.bundle.path / name) for name in names}

    def check_letters(self, groups: Sequence[Sequence[str]]) -> None:
        """Raise InputError unless of each group of scripts, a language's, at least one has letters."""
        for group in groups:
            if not any(map(self.vocabulary.of_script, group)):
                names = " or ".join(group)
                raise InputError(f"{self.bundle.path}: no token has a letter of {names}: nothing of it would be left")

    def choose(self, choice: Choice, corpus: Corpus) -> Ids:
        """The ids that stay, in ascending order."""
        vocabulary, ids = self.vocabulary, self.vocabulary.ids
        allowed = vocabulary.occurring(choice.scripts or None)
        counts, counted = corpus.counts, bool(corpus.counts.any())
        own = choice.scripts or (corpus.scripts if counted else None)
        possible = allowed if choice.scripts else vocabulary.occurring(own)
        stay = vocabulary.special | vocabulary.singles(possible) | vocabulary.singles(ids.keys()) & self._ascii()
        by_id = {number: token for token, number in ids.items()}
        manifest = self.bundle.manifest
        for prompt in (*manifest.prompts.values(), *(adapter.prompt or "" for adapter in manifest.adapters)):
            stay |= {by_id[number] for number in self.tokenizer.word(prompt)}
        if counted or choice.keep is not None:
            stay |= vocabulary.irreplaceable(possible)
        order = sorted(allowed, key=lambda token: (-counts[ids[token]], ids[token]))
        if counted:
            order = [token for token in order if counts[ids[token]] >= choice.min_count]
        kept = self._within(stay, order, choice.keep)
        return np.array(sorted(ids[token] for token in kept), np.int64)

    def _ascii(self) -> set[str]:
        return {token for token in self.vocabulary.ids if self.vocabulary.spelled(token) in ASCII}

    def _within(self, stay: set[str], order: list[str], keep: int | None) -> set[str]:
        """What must stay, and tokens in this order as long as they are few enough."""
        kept: set[str] = set()
        for token in stay:
            kept |= self.vocabulary.parts(token)
        if keep is not None and keep < len(kept):
            raise InputError(
                f"keep is {keep}, but {len(kept)} tokens must stay: single characters, special tokens and pieces that "
                "single characters cannot stand in for",
                option="keep",
                value=str(keep),
            )
        for token in order:
            parts = self.vocabulary.parts(token) if token not in kept else set()
            if keep is not None and len(kept | parts) > keep:
                break
            kept |= parts
        return kept

    def read(self, texts: Sequence[str]) -> Corpus:
        """Count tokens, and the letters of each script."""
        counts = np.zeros(max(self.vocabulary.ids.values()) + 1, np.int64)
        letters: Counter[str] = Counter()
        for text in texts:
            for block in blocks(text):
                counts += np.bincount(np.array(self.tokenizer.word(block), np.int64), minlength=len(counts))
                letters.update(map(script_of, block))
        del letters[COMMON]
        return Corpus(counts, letters)

    def embedder(self, kept: Ids, before: Embedder) -> tuple[Embedder, dict[str, bytes]]:
        """An embedder with these tokens, in the same form of the model, and the contents of its bundle."""
        manifest, model = self.bundle.manifest, self.bundle.model
        try:
            cut = (cut_table if manifest.is_static else cut_model)(model, kept)
            contents = {manifest.model_file: cut, TOKENIZER: self.vocabulary.pruned(kept.tolist())}
        except ExportError as error:
            raise ExportError(f"{self.bundle.path}: {error}") from None
        architecture = {**manifest.architecture, "vocab": len(kept)}
        if manifest.is_static:
            architecture["rows"] = len(read_table(cut, "the table")["rows"]) - 1
        files = {**file_records(contents), **{name: manifest.files[name] for name in self.towers}}
        made = replace(manifest, files=files, architecture=architecture, golden=[], receipt={})
        pruned = Bundle(self.bundle.path, made, contents[manifest.model_file], contents[TOKENIZER])
        exact = before.exact if before.engine == ONNXRUNTIME else None
        engine = None if manifest.native is None else before.engine
        return Embedder(pruned, threads=1, exact=exact, engine=engine), contents


def _compare(before: Embedder, source: _Source, kept: Ids, texts: Sequence[str]) -> dict[str, Any]:
    """What the texts lose with these tokens: tokenization, unknown tokens, and how far vectors move."""
    after, _ = source.embedder(kept, before)
    old = [before.tokenizer.encode(text) for text in texts]
    new = [kept[after.tokenizer.encode(text)] for text in texts]
    changed = [i for i, (a, b) in enumerate(zip(old, new, strict=True)) if not np.array_equal(a, b)]
    cosines = np.ones(len(texts))
    if changed:
        moved = [texts[i] for i in changed]
        cosines[changed] = (before.encode(moved) * after.encode(moved)).sum(axis=1)

    def share(rows: list[NDArray[np.int64]]) -> float:
        unknown, total = sum(int((row == source.vocabulary.unknown).sum()) for row in rows), sum(map(len, rows))
        return round(unknown / max(total, 1), 5)

    found: dict[str, Any] = {"texts": len(texts)}
    if texts:
        found["unchanged_texts"] = round(1 - len(changed) / len(texts), 4)
        figures = {"mean": cosines.mean(), "p5": np.percentile(cosines, 5), "min": cosines.min()}
        found["cosine_to_unpruned"] = {key: round(float(value), 4) for key, value in figures.items()}
        found["unknown_tokens"] = {"before": share(old), "after": share(new)}
        lengths = {"before": old, "after": new}
        found["tokens_per_text"] = {key: round(sum(map(len, rows)) / len(rows), 1) for key, rows in lengths.items()}
    return found


def _check_same(before: Embedder, after: Embedder, source: _Source, kept: Ids, texts: Sequence[str]) -> None:
    """Raise ExportError unless texts whose tokens all stay have the same vectors, bit for bit."""
    same = [t for t in texts if np.array_equal(before.tokenizer.encode(t), kept[after.tokenizer.encode(t)])]
    tried = spread(same, 2 * len(GOLDEN_TEXTS))
    if not np.array_equal(before.encode(tried).view(np.uint32), after.encode(tried).view(np.uint32)):
        raise ExportError(f"{source.bundle.path}: vectors of texts whose tokens all stay changed: it cannot be pruned")


def blocks(text: str) -> list[str]:
    """A text in pieces of at most BLOCK characters, cut at white space where there is any."""
    found = []
    while len(text) > BLOCK:
        end = next((i for i in range(BLOCK, BLOCK // 2, -1) if text[i].isspace()), BLOCK)
        found.append(text[:end])
        text = text[end:]
    return [*found, text]


def spread(texts: Sequence[str], count: int) -> list[str]:
    """`count` of the texts, evenly spread; all of them when there are fewer."""
    return [texts[i] for i in np.linspace(0, len(texts) - 1, min(count, len(texts))).astype(int)]


def _texts_in(scripts: Sequence[str]) -> list[str]:
    """The exporter's texts that are written in these scripts for the most part; without scripts all."""
    found = []
    for text in (text for part in ("calibration", "receipt") for text in calibration_texts(part)):
        letters = Counter(map(script_of, text))
        del letters[COMMON]
        if not scripts or 2 * sum(letters[script] for script in scripts) > letters.total():
            found.append(text)
    return found


def _digest(name: str, texts: Sequence[str]) -> dict[str, Any] | None:
    if not texts:
        return None
    return {"name": name, "count": len(texts), "sha256": hashlib.sha256("\n".join(texts).encode()).hexdigest()}


def _bytes(manifest: Manifest) -> int:
    return sum(record.size for record in manifest.files.values())
