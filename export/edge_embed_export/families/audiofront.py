"""What a folder says of how sounds become a model's numbers, as the `front` of a manifest (see docs/frontends.md).

Known are preprocessor_config.json of transformers, and processor_config.json, where its newer releases put the same, of
CLAP and Whisper. What a file says and this does not know is refused by name.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge_embed_export.families.fronts import checked_front
from edge_embed_export.files.accounting import refuse_unknown, words
from edge_embed_export.files.reading import is_there, read_json
from edge_embed_runtime.checks import listed
from edge_embed_runtime.errors import ExportError, SourceError

FILES = ("preprocessor_config.json", "processor_config.json")
NEWER = "feature_extractor"
# Keys that change no number of a sound that is read alone, or repeat what others say.
HARMLESS = words(
    "feature_extractor_type processor_class return_attention_mask padding_side padding_value chunk_length_s n_samples "
    "nb_frequency_bins nb_max_frames nb_max_samples mel_filters mel_filters_slaney top_db return_tensors"
)
READ = words(
    "n_fft max_length_s fft_window_size hop_length sampling_rate feature_size frequency_min frequency_max padding "
    "truncation chunk_length dither do_normalize"
)
COMMON = {"channels": "mean", "resampler": "soxr_hq", "last": "back"}
LOG = {"base": "10", "floor": 1e-10, "offset": 0.0, "factor": 1.0, "range": None, "shift": 0.0, "scale": 1.0}


def read_audio_front(folder: Path) -> dict[str, Any]:
    """The front end that a folder describes. Raises SourceError for one that has no such file, ExportError for what is
    not understood."""
    for name in FILES:
        path = folder / name
        said = _part(read_json(path)) if is_there(path) else None
        if said is not None:
            return _front(said, path)
    raise SourceError(
        f"{folder} does not say how a sound becomes the model's numbers: it has none of {listed(FILES)} that does",
        path=folder,
    )


def read_front_file(path: Path) -> dict[str, Any]:
    """The front end in one file: of the forms that folders have, or a front end as manifests have it."""
    said = read_json(path)
    if {"rate", "window", "mel"} <= said.keys():
        return checked_front("audio", dict(said), path)
    if (part := _part(said)) is None:
        raise ExportError(f"{path} is not known as a description of how sounds are read", path=path)
    return _front(part, path)


def _part(said: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What of a file is about sounds; None where nothing is."""
    inner = said.get(NEWER)
    part = inner if isinstance(inner, dict) else said
    return part if str(part.get("feature_extractor_type")) in CLASSES else None


def _front(said: Mapping[str, Any], path: Path) -> dict[str, Any]:
    refuse_unknown(path, said, HARMLESS | READ)
    return checked_front("audio", CLASSES[said["feature_extractor_type"]](said, path), path)


def _clap(said: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """CLAP hears 10 seconds; the banks of its two kinds of training differ."""
    rate, hop = _whole(said, "sampling_rate", 48_000, path), _whole(said, "hop_length", 480, path)
    window, fft = _whole(said, "max_length_s", 10, path) * rate, _whole(said, "fft_window_size", 1024, path)
    kind = _choice(said, "truncation", "fusion", ("fusion", "rand_trunc"), path)
    bank = {"scale": "htk", "norm": ""} if kind == "fusion" else {"scale": "slaney", "norm": "slaney"}
    return {
        **COMMON,
        "rate": rate,
        "window": window,
        "hop": window,
        "short": _choice(said, "padding", "repeatpad", ("repeatpad", "repeat", "pad"), path),
        "mel": {
            **_frames(fft, hop, _whole(said, "feature_size", 64, path)),
            **{"low": said.get("frequency_min", 0), "high": said.get("frequency_max", 14_000)},
            **bank,
            "log": {**LOG, "factor": 10.0},
            "frames": window // hop + 1,
        },
        "marks": False,
        "layout": ["batch", "channel", "frame", "band"],
    }


def _whisper(said: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Whisper hears 30 seconds, with zeros behind a shorter sound; its last frame is dropped."""
    for name in ("dither", "do_normalize", "padding_value"):
        if said.get(name):
            raise ExportError(f"{path}: {name} {said[name]!r:.40} is not supported (0 is)", path=path)
    rate, hop = _whole(said, "sampling_rate", 16_000, path), _whole(said, "hop_length", 160, path)
    window, fft = _whole(said, "chunk_length", 30, path) * rate, _whole(said, "n_fft", 400, path)
    return {
        **COMMON,
        "rate": rate,
        "window": window,
        "hop": window,
        "short": "pad",
        "mel": {
            **_frames(fft, hop, _whole(said, "feature_size", 80, path)),
            **{"low": 0.0, "high": 8000.0, "scale": "slaney", "norm": "slaney"},
            "log": {**LOG, "range": 8.0, "shift": 4.0, "scale": 0.25},
            "frames": window // hop,
        },
        "marks": True,
        "layout": ["batch", "band", "frame"],
    }


def _frames(fft: int, hop: int, bands: int) -> dict[str, Any]:
    """How both cut a sound into frames."""
    return {
        **{"frame": fft, "fft": fft, "hop": hop, "window": "hann", "place": "start", "pad": "reflect"},
        **{"power": 2, "bands": bands, "triangles": "hertz"},
    }


def _whole(said: Mapping[str, Any], name: str, usual: int, path: Path) -> int:
    value = said.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2**31 or value != int(value):
        raise ExportError(f"{path}: {name} is {value!r:.40}, expected a whole number", path=path)
    return int(value)


def _choice(said: Mapping[str, Any], name: str, usual: str, known: tuple[str, ...], path: Path) -> str:
    value = said.get(name, usual)
    if value not in known:
        raise ExportError(f"{path}: {name} is {value!r:.40}, expected one of {listed(known)}", path=path)
    return str(value)


CLASSES: dict[str, Callable[[Mapping[str, Any], Path], dict[str, Any]]] = {
    "ClapFeatureExtractor": _clap,
    "WhisperFeatureExtractor": _whisper,
}
