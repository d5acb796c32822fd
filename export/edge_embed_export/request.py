"""One export on its way: from where, to where, what is asked, and what was found on the way."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from edge_embed_export.modules.folder import Folder
from edge_embed_export.options import ExportOptions, GraphOptions
from edge_embed_export.sources.prompts import completed, with_roles
from edge_embed_export.verify.compare import Verifier
from edge_embed_runtime.bundle.manifest import Manifest

# What a manifest says of how vectors are stored in an index, and of weights that were not quantized.
CODES = {"int8": "symmetric, one scale per vector", "binary": "sign, in the frame"}
FLOAT32 = dict.fromkeys(("weights", "activations", "embedding_table"), "float32")


@dataclass(frozen=True)
class Request:
    """What an export makes of which source.

    source:   a file or a folder
    folder:   the folder of its configs
    target:   where the bundle is written
    revision: the commit of a model that was downloaded from a hub; "" for others
    notes:    what the manifest says of what the folder's model is for (see sources/purpose.py)
    verifier: compares the float form with the reference; None for what no reference is asked about
    """

    source: Path
    folder: Folder
    target: Path
    options: ExportOptions
    revision: str = ""
    notes: tuple[str, ...] = ()
    verifier: Verifier | None = None

    def unused(self, what: str, *names: str) -> str:
        """Why those of some options that are given cannot be: the source is `what`; "" where none is."""
        given = self.options.given(*names)
        return f"{self.source} is {what}: there is no use for {', '.join(given)}" if given else ""

    @property
    def without_graph(self) -> str:
        """Why options for ONNX graphs cannot be: the source holds none; "" where none is given."""
        if self.options.graph == GraphOptions():
            return ""
        return f"{self.source} holds no graph: tokenizer, pooling and output say how to take an ONNX model"

    @property
    def name(self) -> str:
        """The bundle's."""
        return self.options.name or self.target.absolute().name

    @cached_property
    def source_name(self) -> str:
        """Where the model comes from, for the manifest."""
        return self.options.source_name or self.source.resolve().name

    def prompts(self, own: Mapping[str, str], default: str) -> dict[str, str]:
        """A model's own prompts and the caller's besides and instead, of all roles. default: see `completed`"""
        return completed({**own, **with_roles(self.options.prompts or {})}, default)

    def provenance(
        self, sha256: str, packages: tuple[str, ...] = ("onnx", "onnxruntime"), /, **facts: Any
    ) -> dict[str, Any]:
        """What the manifest says of where a bundle comes from.

        sha256:   of the model's weights
        packages: whose releases it depends on
        """
        versions = {package: version(package) for package in packages}
        revision = {"revision": self.revision} if self.revision else {}
        return {"source": self.source_name, **revision, "weights_sha256": sha256, **facts, "versions": versions}


class Source(Protocol):
    """One way in which a model comes.

    has_configs:  the configs of a folder say what the model is for
    unverifiable: why no reference gives vectors of such a model; "" where one may
    scores_pairs: it can be a model that scores pairs of texts
    runs_native:  it can be a model that the native engine runs
    portable:     its graph can be written in standard operators
    """

    has_configs: bool = True
    unverifiable: str = ""
    scores_pairs: bool = False
    runs_native: bool = False
    portable: bool = False

    def fits(self, request: Request, /) -> bool:
        """Whether the source of a request is of this kind."""

    def refuses(self, request: Request) -> str:
        """Why the options of a request cannot be; "" where they can."""
        return "words and sif are for files of word vectors" if request.options.given("words", "sif") else ""

    def export(self, request: Request) -> Manifest:
        """Read the model, and write its bundle."""
