"""The Ray cluster of a run: one that is there, or one on this machine for as long as the run takes."""

import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edge_embed_runtime.checks import check_count
from edge_embed_runtime.errors import EdgeEmbedError, InputError
from edge_embed_runtime.extras import require
from edge_embed_runtime.system.cpu import default_threads

EXTRA = "ray"
# Nothing of a run's data passes the object store: it holds the places of shards, and a bundle.
STORE_BYTES = 128 * 2**20
# For workers to start. Where a node has no memory for one, Ray starts one after the other for ever.
START_SECONDS = 600
# Of a cluster of our own: it reports to nobody.
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def connected(address: str | None, workers: int | None, cores: int) -> Iterator[tuple[Any, int]]:
    """ray, and the number of workers of so many cores each; where this started or joined a cluster, that ends here.

    address: None is the cluster that this process has joined already, or else one on this machine
    """
    if workers is not None:
        check_count(workers, "workers", 1)
    own = address is None and not _joined()
    with _environment() if own else _settings():
        ray = require("ray", EXTRA)
        require("ray.data", EXTRA)
        begun = not ray.is_initialized()
        if address is not None and not begun:
            raise InputError("this process has joined a cluster already: leave address out", option="address")
        if begun:
            with _own_sigterm():
                _start(ray, address, (workers or max(1, default_threads() // cores)) * cores)
        try:
            with _settings():
                yield ray, _workers(ray, workers, cores)
        finally:
            if begun:
                ray.shutdown()


def _joined() -> bool:
    """Whether this process has a cluster already; does not import ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


@contextmanager
def _environment() -> Iterator[None]:
    wanted = dict(ENVIRONMENT)
    if "ray" not in sys.modules:
        # Ray's processes run what they are sent. Who may send something, and from where, it reads when it is imported:
        # a token and loopback (the name of the second is older than what it does)
        wanted |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        if "RAY_AUTH_MODE" not in os.environ:
            wanted |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """SIGTERM does what it did: Ray's handler ends the driver with SIGABRT and a stack trace."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _start(ray: Any, address: str | None, cpus: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}  # what counts is raised
    try:
        if address is not None:
            ray.init(address=address, **quiet)
        else:
            ray.init(
                address="local",  # not one that happens to run here
                num_cpus=cpus,
                num_gpus=0,
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                **quiet,
            )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = "on this machine" if address is None else f"at {address}"
        raise EdgeEmbedError(f"there is no Ray cluster {where}: {' '.join(str(error).split())[:300]}") from error


def _workers(ray: Any, workers: int | None, cores: int) -> int:
    cpus = int(ray.cluster_resources().get("CPU", 0))
    room = cpus // cores
    if not room or (workers or 0) > room:
        raise InputError(
            f"workers is {workers or 1} with {cores} CPUs each; the cluster has {cpus}: Ray would wait for more",
            option="workers",
        )
    return workers or room


@contextmanager
def _settings() -> Iterator[None]:
    """Ray Data without bars and notes of its own, and with an end to the wait for workers."""
    data, log = require("ray.data", EXTRA), logging.getLogger("ray.data")
    context, level = data.DataContext.get_current(), log.level
    wanted = {"enable_progress_bars": False, "print_on_execution_start": False, "wait_for_min_actors_s": START_SECONDS}
    before = {name: getattr(context, name) for name in wanted}
    for name, value in wanted.items():
        setattr(context, name, value)
    log.setLevel(logging.CRITICAL)  # what counts is raised
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        log.setLevel(level)
