"""Models by name: what an export needs of a model on a hub is downloaded, and nothing else.

Files are safetensors, JSON and tokenizers; never code, never pickles. `huggingface_hub` does the work: its settings
(HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE) count, and an interrupted download goes on where it ended.
"""

import glob
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edge_embed_runtime.checks import listed, shown
from edge_embed_runtime.errors import SourceError
from edge_embed_runtime.extras import require

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
# What is read of a model besides its weights: configs, tokenizers, and the card, which states the licence.
TEXTS = frozenset({".json", ".txt", ".model"})
CARD = "README.md"
# Folders of a sentence-transformers model: "1_Pooling", and of a Router "query_0_Transformer".
MODULE = re.compile(r"([A-Za-z]+_)?\d+_\w+", re.ASCII)
WEIGHTS, SHARDS = "model.safetensors", "model.safetensors.index.json"
SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
ADAPTER = "adapter_model.safetensors"
PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl"})


@dataclass(frozen=True)
class Downloaded:
    """A model of a hub on this disk. revision: the commit, 40 hex digits"""

    name: str
    revision: str
    folder: Path


def is_name(source: str) -> bool:
    """Whether a source is the name of a model on a hub: OWNER/NAME, and nothing on this disk."""
    return NAME.fullmatch(source) is not None and not Path(source).exists()


def download(name: str, revision: str | None, onnx: str | None, progress: Callable[[str], None]) -> Downloaded:
    """A model by its name.

    revision: a branch, a tag or a commit; None is the main branch
    onnx:     an ONNX file of it that the export reads

    Raises SourceError where it is not to be had, MissingExtraError without the extra `hub`.
    """
    hub = require("huggingface_hub", "hub")
    errors = require("huggingface_hub.errors", "hub")
    try:
        try:
            info = hub.HfApi().model_info(name, revision=revision, files_metadata=True)
        except errors.HfHubHTTPError:
            raise
        except (errors.HTTPError, OSError) as error:  # no network, or offline mode
            return _cached(name, revision, onnx, error, progress)
        files = wanted({file.rfilename: file.size or 0 for file in info.siblings or ()}, name, onnx)
        size = sum(files.values()) / 10**6
        progress(f"downloading {name} at revision {info.sha[:12]}: {len(files)} files, {size:,.1f} MB")
        exact = [glob.escape(file) for file in files]
        folder = Path(hub.snapshot_download(name, revision=revision, allow_patterns=exact))
        return Downloaded(name, folder.name, folder)
    except SourceError:
        raise
    except (errors.HfHubHTTPError, errors.HFValidationError, *_not_here(errors)) as error:
        raise _refused(name, revision, error, errors) from error
    except errors.HTTPError as error:
        raise SourceError(
            f"{name}: the download was interrupted ({error or type(error).__name__}); the next run goes on from there",
            code="network_unreachable",
        ) from error
    except OSError as error:
        raise SourceError(f"{name} could not be downloaded: {shown(error, 300)}") from error


def wanted(files: Mapping[str, int], name: str, onnx: str | None = None) -> dict[str, int]:
    """Those of a model's files, with their sizes, that an export reads. Raises SourceError where no weights are."""
    found = {file for file in files if _is_module(PurePosixPath(file)) and _is_read(PurePosixPath(file))}
    if WEIGHTS in files or SHARDS in files:  # others there are the same weights in another precision
        found -= {file for file in found if _is_other_weights(file)}
    if onnx is not None:
        graphs = {onnx, f"{onnx}_data", f"{onnx}.data"} & files.keys()
        if onnx not in graphs:
            raise SourceError(f"{name} holds no file {shown(onnx)}; its ONNX files: {listed(_of(files, '.onnx'))}")
        found = {file for file in found if "/" in file or not file.endswith(".safetensors")} | graphs
    elif not _of(found, ".safetensors"):
        raise SourceError(f"{name} holds no safetensors{_instead(files)}")
    return {file: files[file] for file in sorted(found)}


def _is_module(path: PurePosixPath) -> bool:
    """Whether a file lies at the top, or in the folders of a sentence-transformers module."""
    return all(MODULE.fullmatch(part) for part in path.parent.parts)


def _is_read(path: PurePosixPath) -> bool:
    return path.suffix in TEXTS or path.suffix == ".safetensors" or path.name == CARD


def _is_other_weights(file: str) -> bool:
    at_top = "/" not in file and file.endswith(".safetensors")
    return at_top and file not in (WEIGHTS, ADAPTER) and not SHARD.fullmatch(file)


def _of(files: Collection[str], suffix: str) -> list[str]:
    return sorted(file for file in files if file.endswith(suffix))


def _instead(files: Collection[str]) -> str:
    """What a model without safetensors has, as the end of a message."""
    graphs = _of(files, ".onnx")
    if graphs:
        return f"; it holds ONNX files: give --onnx and one of {listed(graphs)}"
    pickled = sorted(file for file in files if PurePosixPath(file).suffix in PICKLES)
    if pickled:
        return (
            f", but {listed(pickled)}: pickles can run code, and are never downloaded. Another --revision may hold "
            "safetensors, or save the model with safetensors first"
        )
    return f"; its files: {listed(sorted(files))}"


def _cached(
    name: str, revision: str | None, onnx: str | None, reason: Exception, progress: Callable[[str], None]
) -> Downloaded:
    """What an earlier download left, where the hub is not asked."""
    hub = require("huggingface_hub", "hub")
    patterns = ["*.json", "*.txt", "*.model", "*.safetensors", CARD]
    with suppress(ImportError):  # releases before 2.0 do not remember which files there are
        from huggingface_hub import get_cached_repo_tree

        files = get_cached_repo_tree(name, revision=revision)
        patterns = list(map(glob.escape, wanted({file.path: file.size for file in files}, name, onnx)))
    folder = Path(hub.snapshot_download(name, revision=revision, allow_patterns=patterns, local_files_only=True))
    progress(f"{name} at revision {folder.name[:12]}, as it was downloaded before: {_why(reason)}")
    return Downloaded(name, folder.name, folder)


def _why(reason: Exception) -> str:
    return "offline mode is on" if type(reason).__name__ == "OfflineModeIsEnabled" else "the hub cannot be reached"


def _not_here(errors: Any) -> tuple[type[Exception], ...]:
    """The errors for what was not downloaded before; the second is of release 2.0."""
    names = ("LocalEntryNotFoundError", "CachedRepoTreeNotFoundError")
    return tuple(getattr(errors, name) for name in names if hasattr(errors, name))


def _refused(name: str, revision: str | None, error: Exception, errors: Any) -> SourceError:
    """Why a model is not to be had."""
    if isinstance(error, errors.GatedRepoError) or isinstance(error.__cause__, errors.GatedRepoError):
        return SourceError(f"{name} is gated: accept its terms on the hub, and set HF_TOKEN to a token of yours")
    if isinstance(error, errors.RevisionNotFoundError):
        return SourceError(f"{name} has no revision {shown(revision)}", code="source_missing")
    if isinstance(error, errors.RepositoryNotFoundError):
        return SourceError(
            f"{name} is neither a file or folder here nor a model on the hub (or a private one: set HF_TOKEN)",
            code="source_missing",
        )
    if isinstance(error, _not_here(errors)):
        return SourceError(
            f"{name} was not downloaded before, and the hub cannot be asked: HF_HUB_OFFLINE is set, or there is no "
            "network",
            code="network_unreachable",
        )
    return SourceError(f"{name} could not be downloaded: {shown(error, 300)}")
