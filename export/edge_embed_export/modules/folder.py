"""A model's folder, whose configs are read once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from edge_embed_export.files.accounting import refuse_unknown
from edge_embed_export.files.openclip import optional_config
from edge_embed_export.files.reading import is_there, optional_json, read_json
from edge_embed_export.modules.routers import Entry, expanded
from edge_embed_export.options import Side
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.vectors.kinds import RERANK, SPARSE, Kind

# What sentence-transformers says of a model as a whole.
SETTINGS = "config_sentence_transformers.json"
# Files with a weight for each token of a query, of models that run no network on queries.
QUERY_WEIGHTS = ("idf.json", "query_token_weights.json")
# The module of sentence-transformers that holds a whole CLIP.
CLIP_MODULE, CLIP = "CLIPModel", "clip"
# What Stanford's ColBERT writes.
METADATA = "artifact.metadata"


@dataclass(frozen=True)
class Folder:
    """What the small files of a folder say; what is not there says nothing.

    side: of a Router, whose route is taken
    """

    path: Path
    side: Side | None = None

    @classmethod
    def of(cls, source: Path, side: Side | None = None) -> "Folder":
        """The folder that a source is, or, of a file, the one with its configs: its own, or the one above."""
        if not source.is_file():
            found = cls(source, side)
            return cls(source / found.clip, side) if found.clip else found
        near = source.parent
        return cls(near if (near / "config.json").is_file() else near.parent, side)

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json, of the model, or what OpenCLIP has in its place."""
        return optional_config(self.path)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """SETTINGS, of sentence-transformers."""
        return optional_json(self.path / SETTINGS)

    @cached_property
    def _listed(self) -> list[Any]:
        path = self.path / "modules.json"
        return list(read_json(path, list)) if is_there(path) else []

    @cached_property
    def clip(self) -> str | None:
        """Where in it a CLIP lies that sentence-transformers saved as its one module; None in any other folder."""
        entry = self._listed[0] if len(self._listed) == 1 else None
        if not isinstance(entry, dict) or str(entry.get("type")).rpartition(".")[2] != CLIP_MODULE:
            return None
        inner = str(entry.get("path", ""))
        if inner != Path(inner).name:
            return None
        config = optional_config(self.path / inner) if inner else self.config
        return inner if config.get("model_type") == CLIP else None

    @cached_property
    def modules(self) -> list[Entry]:
        """The entries of modules.json; of a Router those of its routes (see `routers.expanded`)."""
        path = self.path / "modules.json"
        if self.clip is not None:
            return []
        entries: list[Entry] = []
        for module in self._listed:
            if not isinstance(module, dict) or not {"type", "path"} <= module.keys():
                raise ExportError(f"{path}: {module!r} is not a module with type and path")
            refuse_unknown(path, module, ("idx", "name", "path", "type", "kwargs"), "key of a module")
            entries.append(module)
        names = [str(module["name"]) for module in entries if "name" in module]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ExportError(f"{path}: two modules have the name {twice!r}, of which one takes the other's place")
        return expanded(self.path, entries, self.side)

    @property
    def is_multi(self) -> bool:
        """Whether it says that its model gives a vector for each token, besides in modules.json."""
        return self.settings.get("model_type") in ("ColBERT", "MultiVectorEncoder") or is_there(self.path / METADATA)

    @property
    def kind(self) -> Kind | None:
        """What it says that its model gives, besides in modules.json; None where it does not say it there."""
        if self.scores_pairs:
            return RERANK
        sparse = self.settings.get("model_type") == "SparseEncoder"
        return SPARSE if sparse or any((self.path / name).is_file() for name in QUERY_WEIGHTS) else None

    @property
    def is_cross_encoder(self) -> bool:
        """Whether sentence-transformers saved it as one: since 6.0 in SETTINGS, since 4.0 in config.json, and before
        with the activation alone."""
        own = self.config.get("sentence_transformers")
        named = self.settings.get("model_type") == "CrossEncoder" or (isinstance(own, dict) and "activation_fn" in own)
        return named or self.config.get("sbert_ce_default_activation_function") is not None

    @property
    def scores_pairs(self) -> bool:
        """Whether its model scores texts, or pairs of texts: a cross-encoder, or a classifier of transformers'."""
        return self.is_cross_encoder or (not self.modules and self.classifier is not None)

    @property
    def classifier(self) -> str | None:
        """The architecture that config.json names, where it is one with a sequence classification head."""
        named = self.config.get("architectures")
        found = [str(name) for name in (named if isinstance(named, list) else [])]
        return next((name for name in found if name.endswith("ForSequenceClassification")), None)

    def known_as(self, names: Sequence[str], config: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        """What its model may be known by: the given names, its own, and what config.json names.

        config: where it is another than the folder's own, or one that remembers what is asked for
        """
        own = self.config if config is None else config
        return (*names, self.path.resolve().name, str(own.get("_name_or_path", "")))
