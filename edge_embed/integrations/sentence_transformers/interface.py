"""What both classes have of sentence-transformers' interface: devices, evaluators, tensors, and what they refuse."""

from collections.abc import Collection, Mapping
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from edge_embed.integrations.embedding import check_device
from edge_embed_runtime.checks import check_text, listed, unusable
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.embed.reranker import Reranker
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.extras import is_installed, require

EXTRA = "sentence-transformers"
PROCESSES = ("pool", "chunk_size")
# Methods and attributes that a bundle cannot have, and what to do instead.
LACKING = {
    **dict.fromkeys(
        ("save", "save_pretrained", "save_to_hub", "push_to_hub"),
        "a bundle is a folder already: copy it; `edge-embed export` makes one",
    ),
    **dict.fromkeys(
        ("start_multi_process_pool", "stop_multi_process_pool", "encode_multi_process"),
        "one process uses all cores: set `threads`",
    ),
    **dict.fromkeys(
        ("fit", "train", "old_fit", "smart_batching_collate", "forward", "half", "cuda", "parameters"),
        "a bundle is for inference on the CPU: train with sentence-transformers, then `edge-embed export`",
    ),
    **dict.fromkeys(
        ("tokenizer", "tokenize", "preprocess", "processor"),
        "an Embedder has `count_tokens` and `encode_tokens`",
    ),
}


class Evaluations:
    """Where sentence-transformers' evaluators leave what they measured, in place of a model card."""

    def __init__(self) -> None:
        self.metrics: dict[str, dict[str, float]] = {}

    def set_evaluation_metrics(self, evaluator: Any, metrics: dict[str, float], *_: int) -> None:
        """Called by evaluators, with epoch and step; `metrics` has the last ones by the evaluator's name."""
        self.metrics[getattr(evaluator, "name", "") or type(evaluator).__name__] = {
            name: float(value) for name, value in metrics.items()
        }


class Interface:
    """Base of both classes.

    prompts: besides those of the bundle and before them, by name
    default: the name of the one that counts where a call names none; None is the bundle's own default
    """

    def __init__(self, bundle: Embedder | Reranker, prompts: Mapping[str, str] | None, default: str | None) -> None:
        own = {str(name): check_text(text, f"prompt {name!r}") for name, text in (prompts or {}).items()}
        self.prompts: dict[str, str] = {**bundle.prompts, **own}
        self.default_prompt_name = default or bundle.manifest.default_role or None
        if self.default_prompt_name is not None:
            self.prompt_named(self.default_prompt_name, "default_prompt_name")
        self._max_tokens = bundle.max_tokens
        self.model_card_data = Evaluations()

    def prompt_named(self, name: str, option: str = "prompt_name") -> str:
        """One of `prompts`. Raises InputError for another name."""
        if name not in self.prompts:
            raise unusable(option, name, f"one of {listed(list(self.prompts))}")
        return self.prompts[name]

    @property
    def max_seq_length(self) -> int:
        """Tokens of an input that count; it cannot be set to another number."""
        return self._max_tokens

    @max_seq_length.setter
    def max_seq_length(self, tokens: int) -> None:
        if tokens != self._max_tokens:
            raise unusable("max_seq_length", tokens, f"{self._max_tokens}, with which the bundle was exported")

    def get_max_seq_length(self) -> int:
        """`max_seq_length`."""
        return self.max_seq_length

    @property
    def device(self) -> Any:
        """The CPU: torch.device("cpu") where torch is installed, else "cpu"."""
        return require("torch", EXTRA).device("cpu") if is_installed("torch") else "cpu"

    @property
    def modalities(self) -> list[str]:
        """What it takes: ["text"]."""
        return ["text"]

    def evaluate(self, evaluator: Any, output_path: str | None = None) -> Any:
        """What one of sentence-transformers' evaluators measures."""
        return evaluator(self, output_path)

    def to(self, device: object) -> Self:
        """Itself, for the CPU. Raises InputError for other devices."""
        check_device(device)
        return self

    def cpu(self) -> Self:
        """Itself."""
        return self

    def eval(self) -> Self:
        """Itself: a bundle is always for inference."""
        return self

    def __getattr__(self, name: str) -> NoReturn:
        reason = f": {LACKING[name]}" if name in LACKING else ""
        raise AttributeError(f"a bundle as {type(self).__name__} has no {name!r}{reason}", name=name, obj=self)


def refuse_unknown(where: str, given: Collection[str] | Mapping[str, object]) -> None:
    """Raise InputError for parameters that `where` does not know. Those for several processes may be there as None."""
    values = given if isinstance(given, Mapping) else {}
    names = [name for name in given if name not in PROCESSES or values.get(name) is not None]
    if names:
        raise InputError(f"{where} of a bundle does not know {listed(sorted(names), quoted=True)}", option=min(names))


def converted(values: NDArray[Any], to_numpy: bool, to_tensor: bool) -> Any:
    """Results as an array, a tensor, or a list of tensors; without any, what theirs is: empty, of one dimension."""
    whole = np.ascontiguousarray(values) if len(values) else np.array([])
    if to_numpy and not to_tensor:
        return whole
    torch = require("torch", EXTRA)
    tensor = torch.from_numpy(whole) if len(values) else torch.tensor([])
    return tensor if to_tensor else list(tensor)


def tensor_or_array(values: NDArray[Any]) -> Any:
    """A torch tensor where torch is installed, else the array."""
    return require("torch", EXTRA).from_numpy(values) if is_installed("torch") else values
