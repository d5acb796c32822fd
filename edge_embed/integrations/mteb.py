"""Bundles in mteb: `mteb.evaluate(EdgeEncoder("minilm"), mteb.get_tasks(...))`. Extra `mteb`."""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from edge_embed.embedder import Embedder
from edge_embed.integrations.embedding import check_dense, check_device
from edge_embed_runtime.embed.reranker import Reranker, Scores
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.extras import require

require("mteb", "mteb")

from mteb.models.abs_encoder import AbsEncoder, get_prompt_name
from mteb.models.model_meta import ModelMeta, ScoringFunction
from mteb.types import Licenses, PromptType

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata

    from edge_embed_runtime.embed.loadedbundle import LoadedBundle
    from edge_embed_runtime.vectors.types import Vectors

BundlePath = str | os.PathLike[str] | None
# Options that change vectors, and so the name under which mteb stores a result.
EXPERIMENT = ("truncate_dim", "adapter", "exact", "engine", "prompts")


class EdgeEncoder(AbsEncoder):
    """A bundle of kind "dense" as mteb's encoder.

    bundle:   a bundle folder, or the name of an embedded one; None is the default
    revision: what the bundle's fingerprint must be; None means any. Results have it as the model's revision
    device:   "cpu" or None: bundles run on no other
    name:     of the model in results, "organization/model"; None means "edge-embed/" and the bundle's name
    prompts:  in place of the bundle's, by mteb's keys: a task's name or type, "query" or "document", or one of the
              first two with "-query" or "-document" behind it; the narrowest key counts
    options:  those of `Embedder`

    Raises InputError for keys and devices that there are not, and for another kind of bundle.
    """

    def __init__(
        self,
        bundle: BundlePath = None,
        revision: str | None = None,
        *,
        device: str | None = None,
        name: str | None = None,
        prompts: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        check_device(device)
        self.model = Embedder(bundle, **options)
        check_dense(self.model.manifest, self.model.path, "EdgeEncoder")
        self._own = dict(prompts) if prompts is not None else {}
        _check_prompts(self._own)
        if self._own:
            options = {**options, "prompts": self._own}
        self.model_prompts = {**self.model.prompts, **self._own}
        self.mteb_model_meta = _meta(self.model, bundle, revision, name, load_encoder, options).model_copy(
            update={
                "embed_dim": self.model.dim,
                "similarity_fn_name": ScoringFunction.COSINE,
                "use_instructions": any(self.model_prompts.values()),
            }
        )

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: "TaskMetadata",
        hf_split: str,  # noqa: ARG002 - mteb's protocol
        hf_subset: str,  # noqa: ARG002
        prompt_type: Any = None,
        batch_size: int | None = None,  # noqa: ARG002 - a bundle chooses by tokens
        show_progress_bar: bool = False,
        precision: str = "float32",
    ) -> "Vectors":
        """Vectors of the texts of a DataLoader, float32 [n, dim], each row of length 1, in its order.

        prompt_type: mteb's "query" or "document", which choose the bundle's prompt and adapter for that role
        batch_size:  changes nothing: a bundle makes its own batches, by tokens
        precision:   only "float32"; mteb's CompressionWrapper makes others

        Raises InputError for inputs that are not texts, and for another precision.
        """
        if precision != "float32":
            raise InputError(
                f"precision {precision!r} is unknown here: float32 only (mteb's CompressionWrapper makes others)",
                option="precision",
            )
        role, prompt = self._prompt(task_metadata, prompt_type)
        texts = list(_texts(inputs, task_metadata.name))
        return self.model.encode(texts, role=role, prompt=prompt, show_progress=show_progress_bar)

    def _prompt(self, task: "TaskMetadata", prompt_type: Any) -> tuple[str | None, str | None]:
        """The role of a text, and the prompt where it is not that of the role."""
        role = None if prompt_type is None else str(PromptType(prompt_type).value)
        key = get_prompt_name(self.model_prompts, task, None if role is None else PromptType(role))
        if key is None or key == role:
            return role, self._own.get(key) if key else None
        return role, self.model_prompts[key]


class EdgeCrossEncoder:
    """A bundle of kind "rerank" as mteb's cross-encoder; parameters are those of `EdgeEncoder` but `prompts`, options
    those of `Reranker`."""

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        revision: str | None = None,
        device: str | None = None,
        *,
        name: str | None = None,
        **options: Any,
    ) -> None:
        check_device(device)
        self.model = Reranker(bundle, **options)
        self.mteb_model_meta = _meta(self.model, bundle, revision, name, load_cross_encoder, options).model_copy(
            update={"model_type": ["cross-encoder"], "use_instructions": False}
        )

    def predict(
        self,
        inputs1: Any,
        inputs2: Any,
        *,
        task_metadata: "TaskMetadata",
        hf_split: str,  # noqa: ARG002 - mteb's protocol
        hf_subset: str,  # noqa: ARG002
        prompt_type: Any = None,  # noqa: ARG002 - a pair has both
        batch_size: int | None = None,  # noqa: ARG002 - a bundle chooses by tokens
        show_progress_bar: bool = False,
    ) -> Scores:
        """Scores of the pairs of two DataLoaders, float32 [n]. Raises InputError for inputs that are not texts."""
        first, second = (list(_texts(inputs, task_metadata.name)) for inputs in (inputs1, inputs2))
        self.model.check_ranks()
        return self.model.scores(list(zip(first, second, strict=True)), show_progress=show_progress_bar)


def load_encoder(model_name: str, revision: str | None = None, **options: Any) -> EdgeEncoder:
    """What mteb's `ModelMeta.load_model` calls; options are those of `EdgeEncoder`, `bundle` among them."""
    return EdgeEncoder(options.pop("bundle", None), revision, name=model_name, **options)


def load_cross_encoder(model_name: str, revision: str | None = None, **options: Any) -> EdgeCrossEncoder:
    """What mteb's `ModelMeta.load_model` calls; options are those of `EdgeCrossEncoder`, `bundle` among them."""
    return EdgeCrossEncoder(options.pop("bundle"), revision, name=model_name, **options)


def _check_prompts(prompts: Mapping[str, str]) -> None:
    """Refuse keys that mteb would pass over, and so use no prompt."""
    if not prompts:
        return
    try:
        AbsEncoder.validate_task_to_prompt_name(dict(prompts))
    except KeyError as error:
        raise InputError(f"prompts: {error.args[0]}", option="prompts") from error


def _texts(inputs: Any, task: str) -> Iterator[str]:
    for batch in inputs:
        others = sorted({"image", "audio", "video"} & set(batch))
        if "text" not in batch or others:
            what = ", ".join(others) or "no texts"
            raise InputError(f"task {task} has {what} as inputs: only texts can be embedded here", option="inputs")
        yield from batch["text"]


def _meta(
    model: "LoadedBundle",
    bundle: BundlePath,
    revision: str | None,
    name: str | None,
    loader: Callable[..., Any],
    options: dict[str, Any],
) -> ModelMeta:
    """What every bundle says of itself. Raises InputError where it is another revision."""
    manifest = model.manifest
    found = model.fingerprint if isinstance(model, Embedder | Reranker) else manifest.fingerprint
    if revision not in (None, found):
        raise InputError(f"bundle {model.path} is revision {found}, not {revision}", option="revision")
    licence = str(manifest.provenance.get("licence", "")).lower()
    source = str(manifest.provenance.get("source", ""))
    size = sum(record.size for record in manifest.files.values())
    return ModelMeta.create_empty(
        {
            "name": name or f"edge-embed/{model.name.replace('/', '_')}",
            "revision": found,
            "max_tokens": manifest.max_tokens,
            "memory_usage_mb": round(size / 2**20, 1),
            "license": licence if licence in get_args(Licenses) else None,
            "adapted_from": source if source.count("/") == 1 else None,
            "framework": ["NumPy" if model.is_static else "ONNX"],
            "modalities": ["text"],
            # not `loader_kwargs`, which is stored with results: where a bundle lies concerns nobody else
            "loader": partial(loader, bundle=bundle, **options),
            "experiment_kwargs": {key: options[key] for key in EXPERIMENT if options.get(key) is not None} or None,
        }
    )
