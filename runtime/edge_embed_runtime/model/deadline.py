"""A limit on the time that a model may take in onnxruntime."""

from collections.abc import Mapping
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from edge_embed_runtime.model.watchdog import TOKENS, WATCHDOG, Watchdog
from edge_embed_runtime.system.ending import native_call

__all__ = ["WATCHDOG", "Watchdog", "load", "run"]

# What one operator on weights alone may give while a model is loaded; more is left to the runs, which can be ended.
MAX_FOLDED_BYTES = 2**26


def load(source: str | bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """A session on the CPU. Raises DeadlineError; onnxruntime looks at it between two optimizers, not within one."""
    options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", str(MAX_FOLDED_BYTES))
    options.add_session_config_entry("session.load_model_format", "ONNX")

    def end() -> None:
        if hasattr(options, "set_load_cancellation_flag"):
            options.set_load_cancellation_flag(True)

    with WATCHDOG.limit(end, "was not loaded"), native_call():
        # where it fails onnxruntime would print on stdout and try the same again
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"], enable_fallback=0)


def run(
    session: onnxruntime.InferenceSession, feed: Mapping[str, NDArray[Any]], times: float | None = None
) -> list[NDArray[Any]]:
    """The outputs of a model. Raises DeadlineError; onnxruntime looks at it between two operators, not within one.

    times: how often the watchdog's time; None is what tokens need
    """
    options = onnxruntime.RunOptions()

    def end() -> None:
        options.terminate = True

    if times is None:
        times = max(1.0, max((array.size for array in feed.values()), default=0) / TOKENS)
    with WATCHDOG.limit(end, "gave no vectors", times), native_call():
        outputs: list[NDArray[Any]] = session.run(None, feed, options)
    return outputs
