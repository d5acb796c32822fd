"""How much memory large bodies and answers take: of all requests together no more than `Limits.held_bytes`."""

from types import TracebackType

from edge_embed.service.refusals import Refusal


class Memory:
    """Bytes that requests hold now."""

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0


class Share:
    """What one request holds, until the end of its `with` block."""

    def __init__(self, memory: Memory) -> None:
        self._memory, self._size = memory, 0

    def resize(self, size: int) -> None:
        """Hold so many bytes instead. Raises Refusal (429) where others hold too many; a request that is alone may have
        more than all of them together."""
        memory = self._memory
        others = memory.held - self._size
        if size > self._size and others and others + size > memory.most:
            raise Refusal(429, "busy", "too many large requests at a time: try again later", retry_after=1)
        memory.held, self._size = others + size, size

    def __enter__(self) -> "Share":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resize(0)
