"""What the service says on stderr: no texts, no tokens, no keys.

Messages of errors may hold what a client sent. So of a fault the log has its kind and the places in the code.
"""

import copy
import logging
import traceback

LOGGERS = ("edge_embed.service", "edge_embed.service.access", "uvicorn.error", "asyncio")


class PlainFormatter(logging.Formatter):
    """One line a record; of an exception its kinds and places."""

    def format(self, record: logging.LogRecord) -> str:
        record = copy.copy(record)
        record.exc_text = None  # as another formatter may have written it
        return super().format(record)

    def formatException(self, ei: object) -> str:
        error = ei[1] if isinstance(ei, tuple) else None
        lines: list[str] = []
        while isinstance(error, BaseException):
            lines.append(f"{type(error).__module__}.{type(error).__qualname__}")
            lines += [line.rstrip() for line in traceback.format_tb(error.__traceback__)]
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\n".join(lines)


def set_up(*, access: bool) -> None:
    """Send the logs of the service, and of what it is built on, to stderr. access: a line for each answer, too"""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("edge-embed: %(message)s"))
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.ERROR if name in ("uvicorn.error", "asyncio") else logging.WARNING)
    logging.getLogger("edge_embed.service.access").setLevel(logging.INFO if access else logging.WARNING)
