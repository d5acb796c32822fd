"""Whether a decoder's tokens see those behind them: what the caller, config.json or the names of its classes say."""

import re

from edge_embed_export.families.reader import Reader
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.sources.owncode import own_classes
from edge_embed_export.sources.purpose import check_own_code

# Classes that LLM2Vec, NVIDIA and others made of the library's decoders by taking away what hides the tokens behind.
BOTH_WAYS = re.compile(
    r"(^|\.)(Llama|Mistral|Ministral|Qwen2|Qwen3|Gemma[23]?(Text)?)(Bi|Bidirectional|Encoder)(Model|For\w+)$"
)
# Model types and code with such classes.
TYPES, CODE = re.compile(r"bidirec"), re.compile(r"gritlm", re.IGNORECASE)


def is_causal(read: Reader, *, obeyed: bool = False) -> bool:
    """Whether tokens see those before them alone. Models made for embedding say in several ways that they do not.

    obeyed: whether the library reads `use_bidirectional_attention` for this family (of models without code of their
            own; such code may read what it likes)

    Raises UnsupportedModelError where the folder has code of its own and does not say what that does.
    """
    config = read.config
    if read.checkpoint.attention is not None:
        return read.checkpoint.attention == "causal"
    both, causal = config.get("use_bidirectional_attention"), config.get("is_causal")
    for name, value in (("use_bidirectional_attention", both), ("is_causal", causal)):
        if not isinstance(value, bool | None):
            raise read.error(f"config.json: {name} is {value!r:.40}, expected true or false")
    if both and not obeyed and not any(own_classes(config, "AutoModel")):
        raise read.error(
            "config.json: use_bidirectional_attention is true, which the library does not read for this architecture: "
            "say --attention bidirectional, or --attention causal for what the library does"
        )
    if both and causal:
        raise read.error("config.json: use_bidirectional_attention is true and is_causal is true: remove one of them")
    if both is not None and obeyed:
        return not both
    if both or causal is not None:
        return bool(causal)
    if says_both_ways(read):
        return False
    check_own_code(read.checkpoint.folder, config)
    return True


def says_both_ways(read: Reader) -> bool:
    """Whether the names of the model's classes say it."""
    named = read.config.get("architectures")
    classes = [*own_classes(read.config, "AutoModel"), *(map(str, named) if isinstance(named, list) else ())]
    own = any(BOTH_WAYS.search(name) or CODE.search(name) for name in classes)
    return own or bool(TYPES.search(str(read.config.get("model_type"))))


def check_windows(read: Reader, widths: list[int | None], max_tokens: int) -> list[int | None]:
    """The windows of a model that sees both sides: whether code of its own keeps them, nobody knows from outside."""
    own = [*own_classes(read.config, "AutoModel")]
    if any(CODE.search(name) for name in own):
        return [None] * len(widths)  # GritLM's does not
    narrow = [width for width in widths if width is not None and width < max_tokens]
    if own and narrow:
        raise read.error(
            f"config.json: sliding_window is {narrow[0]}, and whether the model's own code ({own[0]}) keeps such "
            f"windows when tokens see both sides is not known: --max-tokens {narrow[0]} makes it the same, or set "
            "sliding_window to null where it does not"
        )
    return widths


def notes_of_attention(checkpoint: Checkpoint) -> list[str]:
    """What the manifest says where the caller chose, or where transformers 4 and 5 differ."""
    if checkpoint.attention is not None:
        return [f"attention is {checkpoint.attention}, as was asked for"]
    if checkpoint.config.get("is_causal") is False and not checkpoint.config.get("auto_map"):
        return ["is_causal is false in config.json: tokens see both sides, as in transformers 5 (4 does not read it)"]
    return []
