"""ELMo (https://arxiv.org/abs/1802.05365): words by their characters, then language models in both directions.

A folder holds the published `*options.json` and `*weights.hdf5`, or in the latter's place `model.safetensors` with its
tensors under the names that they have there, `/` included:

    char_embed [261, e]  CNN/W_cnn_I [1, width, e, filters]  CNN/b_cnn_I [filters]
    CNN_high_I/W_{carry,transform} [n, n]  CNN_high_I/b_{carry,transform} [n]
    CNN_proj/W_proj [n, p]  CNN_proj/b_proj [p]
    RNN_D/RNN/MultiRNNCell/CellL/LSTMCell/{W_0 [2 p, 4 c], B [4 c], W_P_0 [c, p]}, D = 0 forward, 1 backward

A `tokenizer.json` that finds words may lie next to them; without one, words are what white space and punctuation part.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_embed_export.files.accounting import refuse_tensors, refuse_unknown, words
from edge_embed_export.files.hdf5 import read_hdf5
from edge_embed_export.files.reading import is_there, optional_json, read_json
from edge_embed_export.files.stored import Array
from edge_embed_export.files.tensors import WEIGHTS, read_weights
from edge_embed_export.tokenizer.definition import read_definition
from edge_embed_export.tokenizer.parts import special, template_of, text_of
from edge_embed_runtime.errors import ExportError, SourceError
from edge_embed_runtime.inputs.characters import KINDS, WIDTH

OPTIONS, PUBLISHED = "options.json", "weights.hdf5"
GATES = 4  # input, new memory, forget, output: as TensorFlow has them, which adds 1 to what opens the third
ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh"}
LARGEST = 2**20  # of a number in options.json
# Keys of options.json: what is read here, and what the published files have besides, of their training.
KNOWN = words(
    "char_cnn lstm char_cnn.activation char_cnn.embedding char_cnn.embedding.dim char_cnn.filters char_cnn.n_highway "
    "char_cnn.max_characters_per_token lstm.cell_clip lstm.dim lstm.n_layers lstm.proj_clip lstm.projection_dim "
    "lstm.use_skip_connections "
    "char_cnn.n_characters all_clip_norm_val batch_size bidirectional dropout n_epochs n_gpus n_negative_samples_batch "
    "n_tokens_vocab n_train_tokens unroll_steps"
)


@dataclass(frozen=True)
class Elmo:
    """One model.

    filters: (width, filters) of each convolution over the characters of a word
    clips:   the largest magnitude of a state's memory and of its projection, 0 for no limit
    """

    weights: dict[str, Array]
    embedding: int
    filters: tuple[tuple[int, int], ...]
    highways: int
    activation: str
    projection: int
    memory: int
    layers: int
    clips: tuple[float, float]
    skips: bool
    tokenizer: dict[str, Any]
    sha256: str

    @property
    def dim(self) -> int:
        return 2 * self.projection

    def describe(self) -> dict[str, Any]:
        """The manifest's `architecture`."""
        return {
            "family": "elmo",
            "layers": self.layers,
            "hidden": self.dim,
            "intermediate": GATES * self.memory,
            "heads": 1,
            "vocab": KINDS,
        }


def is_elmo(source: Path) -> bool:
    """Whether a folder says that it holds such a model."""
    try:
        return source.is_dir() and "char_cnn" in optional_json(_named(source, OPTIONS))
    except SourceError:
        return False


def _named(source: Path, usual: str) -> Path:
    """A file of a folder by its usual name, or the one whose name ends so, as those that were published."""
    found = sorted(source.glob(f"*{usual}"))
    return source / usual if is_there(source / usual) or len(found) != 1 else found[0]


def read_elmo(source: Path) -> Elmo:
    """Raises SourceError for what cannot be read, ExportError for tensors that do not fit options.json."""
    said = _named(source, OPTIONS)
    try:
        options = read_json(said)
        cnn, lstm = options["char_cnn"], options["lstm"]
        filters = tuple((_count(width, WIDTH), _count(count)) for width, count in cnn["filters"])
        projection, memory = _count(lstm["projection_dim"]), _count(lstm["dim"])
        found: dict[str, Any] = {
            "embedding": _count(cnn["embedding"]["dim"]),
            "filters": filters,
            "highways": _count(cnn["n_highway"], 100, least=0),
            "activation": ACTIVATIONS[cnn["activation"]],
            "layers": _count(lstm["n_layers"], 100),
            "clips": (float(lstm.get("cell_clip") or 0), float(lstm.get("proj_clip") or 0)),
            "skips": bool(lstm.get("use_skip_connections")),
        }
        longest = _count(cnn.get("max_characters_per_token", WIDTH))
        for part, held in (
            ("", options),
            ("char_cnn.", cnn),
            ("lstm.", lstm),
            ("char_cnn.embedding.", cnn["embedding"]),
        ):
            refuse_unknown(said, {f"{part}{name}": value for name, value in held.items()}, KNOWN)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SourceError(f"{said} does not describe an ELMo model: {error!r}") from error
    if longest != WIDTH or not filters:
        raise ExportError(f"{said}: max_characters_per_token is {longest}, only {WIDTH} is supported")
    published = _named(source, PUBLISHED)
    stored = is_there(source / WEIGHTS) or not is_there(published)
    weights, sha256 = read_weights(source) if stored else read_hdf5(published)
    elmo = Elmo(weights, projection=projection, memory=memory, tokenizer=_tokenizer(source), sha256=sha256, **found)
    _check(elmo, source / WEIGHTS if stored else published)
    return elmo


def _count(value: object, most: int = LARGEST, *, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{value!r:.40} is no number from {least} to {most}")
    return value


def _tokenizer(source: Path) -> dict[str, Any]:
    path = source / "tokenizer.json"
    if is_there(path):
        return read_definition(path)
    names = ["[UNK]", "<S>", "</S>"]
    kinds = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    begin, end = map(special, names[1:])
    one = [begin, text_of("A"), end]
    return {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": name, **kinds} for i, name in enumerate(names)],
        "normalizer": None,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": template_of(one, [*one, text_of("B", 1), end], {"<S>": 1, "</S>": 2}),
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {name: i for i, name in enumerate(names)}, "unk_token": "[UNK]"},
    }


def cell_name(direction: int, layer: int, part: str) -> str:
    return f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell/{part}"


def _check(elmo: Elmo, path: Path) -> None:
    """Raise ExportError for a tensor that is not there, or has another shape than options.json says."""
    wide, narrow, memory = sum(count for _, count in elmo.filters), elmo.projection, elmo.memory
    shapes: dict[str, tuple[int, ...]] = {"char_embed": (KINDS - 1, elmo.embedding)}
    for i, (width, count) in enumerate(elmo.filters):
        shapes |= {f"CNN/W_cnn_{i}": (1, width, elmo.embedding, count), f"CNN/b_cnn_{i}": (count,)}
    for i in range(elmo.highways):
        for part in ("carry", "transform"):
            shapes |= {f"CNN_high_{i}/W_{part}": (wide, wide), f"CNN_high_{i}/b_{part}": (wide,)}
    shapes |= {"CNN_proj/W_proj": (wide, narrow), "CNN_proj/b_proj": (narrow,)}
    for direction in range(2):
        for layer in range(elmo.layers):
            shapes[cell_name(direction, layer, "W_0")] = (2 * narrow, GATES * memory)
            shapes[cell_name(direction, layer, "B")] = (GATES * memory,)
            shapes[cell_name(direction, layer, "W_P_0")] = (memory, narrow)
    for name, shape in shapes.items():
        if name not in elmo.weights:
            raise ExportError(f"{path} has no tensor {name!r}")
        if elmo.weights[name].shape != shape:
            raise ExportError(f"{path}: {name} has shape {elmo.weights[name].shape}, {OPTIONS} says {shape}")
    refuse_tensors(path, elmo.weights, sorted(elmo.weights.keys() - shapes.keys()), "an ELMo model")
