"""Folders that sentence-transformers saves, of the release that is installed, beside its vectors: extra `parity`."""

import json
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.bert import TINY, Checkpoints

from edge_embed import Embedder
from edge_embed_export import GraphOptions, export_model
from edge_embed_export.modules.classes import module_class

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not find_spec("sentence_transformers"), reason="needs sentence-transformers (extra parity)"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("short_receipt"),
]
TEXTS = ["the river bank", "", "money in the bank at night and the cat is in the garden", "a", "red blue dog house"]


def modules() -> Any:
    """The package that has the classes of modules."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from sentence_transformers.sentence_transformer import modules as found
        except ImportError:
            from sentence_transformers import models as found
    return found


def transformer(source: Path, **settings: Any) -> Any:
    """The Transformer module of a small BERT, with a tokenizer that transformers knows."""
    (source / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 24})
    )
    made = modules().Transformer(str(source), max_seq_length=24)
    model = made.auto_model if hasattr(made, "auto_model") else made.model
    for name, value in settings.items():
        setattr(model.config, name, value)
    return made


def save(listed: Sequence[Any], folder: Path, **settings: Any) -> np.ndarray:
    """Save modules with random weights as a folder; gives the reference's vectors of TEXTS, of length 1."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.manual_seed(3)
    model = SentenceTransformer(modules=list(listed), device="cpu", **settings)
    with torch.no_grad():
        for module in listed[1:]:
            for weight in module.parameters():
                weight.copy_(torch.randn_like(weight) * 0.4 + 0.3)
    model.save(str(folder))
    vectors = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, batch_size=2)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def exported(folder: Path, bundle: Path, **options: Any) -> np.ndarray:
    export_model(folder, bundle, **{"precision": "fp32", "floor": -1, **options})
    return Embedder(bundle, threads=1).encode(TEXTS)


def sequences() -> dict[str, Any]:
    """What follows the transformer (hidden 32), by a name: each a list of modules, made when it is called."""
    m = modules()

    def dense(n: int, k: int, **options: Any) -> Any:
        import torch

        return m.Dense(n, k, activation_function=getattr(torch.nn, options.pop("act", "Tanh"))(), **options)

    def pooled(how: str = "mean", width: int = 32) -> Any:
        return m.Pooling(width, pooling_mode=how)

    found = {
        "normalize before dense": lambda: [pooled(), m.Normalize(), dense(32, 20)],
        "dense, normalize, dense": lambda: [pooled(), dense(32, 20), m.Normalize(), dense(20, 12, bias=False)],
        "layer norm": lambda: [pooled(), m.LayerNorm(32)],
        "normalize, layer norm, dropout, normalize": lambda: [
            *(pooled("cls"), m.Normalize(), m.LayerNorm(32), m.Dropout(0.4), m.Normalize())
        ],
        "dropout": lambda: [pooled("max"), m.Dropout(0.9), dense(32, 8, act="Identity")],
        **{
            f"dense {act}": lambda act=act: [pooled(), dense(32, 24, act=act)]
            for act in ("Tanh", "Identity", "ReLU", "GELU", "SiLU")
        },
        **{
            how: lambda how=how: [pooled(how)]
            for how in ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
        },
    }
    if hasattr(m.Dense(2, 2), "use_residual"):  # since 5.7
        token = {"module_input_name": "token_embeddings"}
        found |= {
            "residual": lambda: [pooled(), dense(32, 32, use_residual=True)],
            "residual through a layer": lambda: [pooled(), m.Normalize(), dense(32, 20, use_residual=True)],
            "dense on tokens": lambda: [dense(32, 24, **token), m.Normalize(**token), pooled("mean", 24)],
        }
    return found


NAMES = (
    *("normalize before dense", "dense, normalize, dense", "layer norm", "normalize, layer norm, dropout, normalize"),
    *("dropout", "dense Tanh", "dense Identity", "dense ReLU", "dense GELU", "dense SiLU"),
    *("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"),
    *("residual", "residual through a layer", "dense on tokens"),
)


@pytest.mark.parametrize("name", NAMES)
def test_sequence(checkpoint: Checkpoints, tmp_path: Path, name: str) -> None:
    """Modules in any order: within 1e-5 in float32; int8 stays near, with one vector for a text."""
    make = sequences().get(name)
    if make is None:
        pytest.skip("this release has no such module")
    expected = save([transformer(checkpoint()), *make()], tmp_path / "saved")
    assert np.abs(exported(tmp_path / "saved", tmp_path / "fp32") - expected).max() < 1e-5
    exported(tmp_path / "saved", tmp_path / "int8", precision="int8")
    embedder = Embedder(tmp_path / "int8", threads=1)
    vectors = embedder.encode(TEXTS)
    assert (vectors * expected).sum(axis=1).min() > 0.95
    assert np.array_equal(vectors, np.vstack([embedder.encode([text]) for text in TEXTS]))


POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@pytest.mark.parametrize("flags", [(0, 2), (0, 1, 2, 3, 4, 5), (3, 5), (4, 1)], ids=str)
@pytest.mark.parametrize("form", ["old", "new", "new, another order"])
def test_poolings_one_behind_the_other(
    checkpoint: Checkpoints, tmp_path: Path, flags: tuple[int, ...], form: str
) -> None:
    """cls + mean and others, in the booleans of old and in the lists since 5.4, with a Dense behind them."""
    names = [list(POOLINGS)[i] for i in flags]
    m = modules()
    since = not hasattr(m.Pooling(4), "word_embedding_dimension")
    if form != "old" and not since:
        pytest.skip("this release has no lists")
    listed = [transformer(checkpoint()), m.Pooling(32), m.Dense(32 * len(names), 16)]
    if form == "old":
        listed[1] = m.Pooling(32, **{name: name in names for name in POOLINGS})
    else:
        modes = [POOLINGS[name] for name in names]
        listed[1] = m.Pooling(32, pooling_mode=modes if form == "new" else modes[::-1])
    expected = save(listed, tmp_path / "saved")
    assert np.abs(exported(tmp_path / "saved", tmp_path / "fp32") - expected).max() < 1e-5


@pytest.mark.parametrize("start", [0, 1, 2])
def test_layers_weighted(checkpoint: Checkpoints, tmp_path: Path, start: int) -> None:
    """WeightedLayerPooling, from the embeddings on or behind a layer, in float32 and int8."""
    m = modules()
    listed = [
        transformer(checkpoint(), output_hidden_states=True),
        m.WeightedLayerPooling(32, num_hidden_layers=TINY["num_hidden_layers"], layer_start=start),
        m.Pooling(32),
    ]
    expected = save(listed, tmp_path / "saved")
    assert np.abs(exported(tmp_path / "saved", tmp_path / "fp32") - expected).max() < 1e-5
    assert (exported(tmp_path / "saved", tmp_path / "int8", precision="int8") * expected).sum(axis=1).min() > 0.95


def test_truncate_dim(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A folder that says truncate_dim has vectors of so many numbers, where the release reads it."""
    m = modules()
    expected = save([transformer(checkpoint()), m.Pooling(32), m.Normalize()], tmp_path / "saved", truncate_dim=12)
    said = json.loads((tmp_path / "saved" / "config_sentence_transformers.json").read_text())
    assert expected.shape[1] == said.get("truncate_dim", 32)
    assert np.abs(exported(tmp_path / "saved", tmp_path / "fp32") - expected).max() < 1e-5


def test_every_module_of_the_release_is_known() -> None:
    """Each class that can be saved is known by the name that it is saved under."""
    try:
        from sentence_transformers.sparse_encoder import modules as sparse
    except ImportError:
        from sentence_transformers.sparse_encoder import models as sparse
    found = {getattr(package, name) for package in (modules(), sparse) for name in package.__all__}
    known = {kind for kind in found if kind.__name__ not in ("Module", "InputModule")}
    assert len(known) > 15
    for kind in known:
        # releases before 5.4 leave the class out, whose file has its name
        old = kind.__module__.rpartition(".")[2] in (kind.__name__, "Router")
        path = kind.__module__ if old else f"{kind.__module__}.{kind.__name__}"
        assert module_class(path) in (kind.__name__, "Router")


def test_general_path(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """The same of a graph that torch makes: poolings in a row, Normalize, LayerNorm and Dense behind them."""
    m = modules()
    pooling = m.Pooling(32, pooling_mode_cls_token=True, pooling_mode_mean_tokens=True)
    behind = [m.Normalize(), m.LayerNorm(64), m.Dropout(0.1), m.Dense(64, 20)]
    expected = save([transformer(checkpoint()), pooling, *behind], tmp_path / "saved")
    options = {"graph": GraphOptions(convert=True)}
    assert np.abs(exported(tmp_path / "saved", tmp_path / "fp32", **options) - expected).max() < 1e-5
    found = exported(tmp_path / "saved", tmp_path / "int8", precision="int8", **options)
    assert (found * expected).sum(axis=1).mean() > 0.95
    assert np.array_equal(found[:1], Embedder(tmp_path / "int8").encode(TEXTS[:1]))


def test_layer_norm_before_the_cut(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """The lines of Nomic's card: F.layer_norm(x, (n,))[:, :dim], brought to length 1."""
    import torch
    import torch.nn.functional as F
    from sentence_transformers import SentenceTransformer

    m = modules()
    save([transformer(checkpoint()), m.Pooling(32)], tmp_path / "saved")
    export_model(tmp_path / "saved", tmp_path / "fp32", precision="fp32", truncate_norm=True)
    whole = SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(TEXTS, convert_to_tensor=True)
    for dim in (24, 8):
        cut = F.layer_norm(whole, normalized_shape=(whole.shape[1],))[:, :dim]
        expected = F.normalize(cut, p=2, dim=1).numpy()
        found = Embedder(tmp_path / "fp32", truncate_dim=dim).encode(TEXTS)
        assert np.abs(found - expected).max() < 1e-5
        assert np.abs(found - torch.nn.functional.normalize(whole[:, :dim]).numpy()).max() > 1e-3
