"""Prompts in tokens: whether one leaves room for the text behind it (without, all texts would have the vector of the
prompt), and which tokens are left out where a text's vector is not made of its prompt."""

from typing import TYPE_CHECKING

from edge_embed_runtime.errors import InputError

if TYPE_CHECKING:
    from edge_embed_runtime.inputs.tokenizer import Tokenizer

# Tokens of a text that are to count behind a prompt, at the least.
LEAST_ROOM = 5


def check_room(tokenizer: "Tokenizer", prompt: str, what: str, limit: int | None = None) -> None:
    """Raise InputError for a prompt that leaves fewer than LEAST_ROOM tokens for the text.

    what:  names the prompt in the message
    limit: tokens that count, special ones included; None means the tokenizer's
    """
    special = len(tokenizer.encode("")) if prompt else 0
    most = (tokenizer.max_tokens if limit is None else limit) - special
    # as many as count: a prompt may have more
    used = min(len(tokenizer.encode(prompt)) - special, most) if prompt else 0
    if used and most - used < LEAST_ROOM:
        size = f"all {most}" if used == most else f"{used} of the {most}"
        raise InputError(
            f"{what} takes {size} tokens that count, and leaves {most - used} for the text behind it, where at least "
            f"{LEAST_ROOM} are needed: give a shorter prompt ({prompt[:40]!r}...)",
            option="prompt",
        )


def left_out(tokenizer: "Tokenizer", prompt: str, how: str) -> int:
    """Tokens at the beginning of a text behind this prompt that its vector is not made of.

    how: of the manifest: "prompt" counts what the tokenizer makes of the prompt alone, but for one special token at its
         end (sentence-transformers' include_prompt, also GritLM and Instructor); "instruction" counts no special tokens
         (NV-Embed's own code, so that the prompt's last token stays where one stands before it); "" is none
    """
    if not how or not prompt:
        return 0
    before, after = tokenizer.around
    whole = len(tokenizer.encode(prompt))
    return whole - len(before) - len(after) if how == "instruction" else whole - bool(after)
