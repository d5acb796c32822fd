"""Where numbers lie in a model's file: a reader that maps the file wants them at addresses that its CPU likes.

ONNX has nothing for that. But a tensor may have a text, which is stored behind its numbers and which nobody reads:
blanks in it move the tensors that follow.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

ALIGNMENT = 64
# Tensors of fewer bytes lie where they lie.
LEAST_BYTES = 64
# A text may change how many bytes the length before it takes, and so what was found before.
PASSES = 8
# Of onnx.proto: the fields before these are stored before them.
GRAPH, INITIALIZER = 7, 5


@dataclass
class _Tensor:
    """A tensor's sizes in bytes: whole without its text, and of its numbers. blanks: of its text; -1 for no text"""

    bytes: int
    numbers: int
    blanks: int = -1

    def whole(self, blanks: int) -> int:
        """As a field of the graph, with a text of so many blanks."""
        return _field(self.bytes if blanks < 0 else self.bytes + _field(blanks))

    @property
    def head(self) -> int:
        """Bytes of the field before its numbers, which come last but for the text."""
        text = 0 if self.blanks < 0 else _field(self.blanks)
        return self.whole(self.blanks) - self.numbers - text


def align(model: "onnx.ModelProto") -> None:
    """Let the numbers of each tensor of LEAST_BYTES or more begin at a multiple of ALIGNMENT bytes in the file.

    The first tensor stays where it is: there is no text before it.
    """
    stored = model.graph.initializer
    for tensor in stored:
        tensor.ClearField("doc_string")
    tensors = [_Tensor(tensor.ByteSize(), len(tensor.raw_data)) for tensor in stored]
    rest = model.graph.ByteSize() - sum(tensor.whole(-1) for tensor in tensors)
    model_head = sum(_stored(model, field.name) for field, _ in model.ListFields() if field.number < GRAPH)
    graph_head = sum(
        _stored(model.graph, field.name) for field, _ in model.graph.ListFields() if field.number < INITIALIZER
    )
    for _ in range(PASSES):
        before = [tensor.blanks for tensor in tensors]
        length = rest + sum(tensor.whole(tensor.blanks) for tensor in tensors)
        _pad(tensors, model_head + _field(length) - length + graph_head)
        if before == [tensor.blanks for tensor in tensors]:
            break
    for found, tensor in zip(tensors, stored, strict=True):
        if found.blanks >= 0:
            tensor.doc_string = " " * found.blanks


def _pad(tensors: list[_Tensor], position: int) -> None:
    """Choose the texts. position: where the first tensor's field begins"""
    for tensor, following in pairwise(tensors):
        if following.numbers >= LEAST_BYTES:
            tensor.blanks = _blanks(tensor, position + following.head)
        position += tensor.whole(tensor.blanks)


def _blanks(tensor: _Tensor, position: int) -> int:
    """The fewest blanks that bring what is behind a tensor to a multiple of ALIGNMENT; -1 where no text does.

    position: that of the tensor's field, and the bytes before the numbers behind it
    """
    if (position + tensor.whole(-1)) % ALIGNMENT == 0:
        return -1
    missing = -(position + tensor.whole(0)) % ALIGNMENT
    # a blank is a byte; with some the lengths before the text and the tensor take a byte more each
    guesses = (missing - more + turn for turn in (0, ALIGNMENT) for more in (2, 1, 0))
    return next(n for n in guesses if n >= 0 and (position + tensor.whole(n)) % ALIGNMENT == 0)


def _stored(message: Any, name: str) -> int:
    """Bytes that one of a message's fields takes in the file."""
    alone = type(message)()
    value = getattr(message, name)
    if isinstance(value, int | str):
        setattr(alone, name, value)
    else:
        getattr(alone, name).extend(value)
    return int(alone.ByteSize())


def _field(length: int) -> int:
    """Bytes of a field whose content has so many: a number of the field, its length, the content."""
    return 1 + max(1, -(-length.bit_length() // 7)) + length
