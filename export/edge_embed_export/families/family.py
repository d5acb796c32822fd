"""What a family is: how its checkpoints are known, and read."""

from collections.abc import Callable
from dataclasses import dataclass

from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.spec import Spec, Weights

Read = Callable[[Checkpoint], tuple[Spec, Weights]]


@dataclass(frozen=True)
class Family:
    """One row of `edge-embed export --list`.

    types:       values of `model_type` in config.json
    parts:       what of the graph it uses
    checkpoints: models that are of this family
    when:        what else a checkpoint must be, where several families share a type
    prepare:     brings the tensors of a checkpoint under the names that `read` asks for
    """

    title: str
    types: tuple[str, ...]
    parts: str
    checkpoints: tuple[str, ...]
    read: Read
    when: Callable[[Checkpoint], bool] = lambda _: True
    prepare: Callable[[Checkpoint], Checkpoint] = lambda checkpoint: checkpoint
