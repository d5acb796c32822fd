"""modules.json is a sequence: what each module does where it stands, and which are refused, by name and place."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.bert import Checkpoints
from builders.checkpoints import read_checkpoint
from builders.heads import multi_folder, sparse_folder
from safetensors.numpy import load_file, save_file

from edge_embed import Embedder
from edge_embed.errors import ExportError
from edge_embed_export import export_model
from edge_embed_export.modules.classes import PACKAGES, module_class
from edge_embed_export.modules.folder import Folder
from edge_embed_export.modules.listed import as_steps, read_modules

pytestmark = pytest.mark.usefixtures("short_receipt")

OLD = "sentence_transformers.models."
NEW = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
    "LayerNorm": "sentence_transformers.sentence_transformer.modules.layer_norm.LayerNorm",
    "Dropout": "sentence_transformers.sentence_transformer.modules.dropout.Dropout",
}
TEXTS = ["the river bank", "", "money in the bank at night and the cat is in the garden", "a"]
LAYER = "sentence_transformers.models.WeightedLayerPooling"


def put(folder: Path, path: str, config: dict[str, Any] | None, **tensors: np.ndarray) -> None:
    """The folder of a module."""
    (folder / path).mkdir(exist_ok=True)
    if config is not None:
        (folder / path / "config.json").write_text(json.dumps(config))
    if tensors:
        save_file(
            {name.replace("__", "."): array for name, array in tensors.items()}, folder / path / "model.safetensors"
        )


def listing(folder: Path, *modules: tuple[str, str]) -> Path:
    """Write modules.json: (type, path) of each; a type without a dot is one of sentence-transformers."""
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": kind if "." in kind else OLD + kind}
        for i, (kind, path) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(entries))
    return folder


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def dense(folder: Path, path: str, n: int, m: int, **config: Any) -> None:
    said = {
        "in_features": n,
        "out_features": m,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    put(folder, path, {**said, **config}, linear__weight=normal(m, n), linear__bias=normal(m))


def layer_norm(folder: Path, path: str, width: int) -> None:
    put(folder, path, {"dimension": width}, norm__weight=normal(width), norm__bias=normal(width) + 1)


def vectors(folder: Path, bundle: Path, **options: Any) -> np.ndarray:
    export_model(folder, bundle, **{"precision": "fp32", "floor": -1, **options})
    return Embedder(bundle, threads=1).encode(TEXTS)


def unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def pooled_states(folder: Path, bundle: Path) -> list[np.ndarray]:
    """States of the last layer of TEXTS, [tokens, 32] each."""
    export_model(listing(folder, ("Transformer", ""), ("Pooling", "1_Pooling")), bundle, precision="fp32")
    return [found.vectors for found in Embedder(bundle, threads=1).encode_tokens(TEXTS)]


def test_modules_in_their_order(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Normalize, Dense, LayerNorm, Dropout and Identity behind the pooling, in two orders."""
    source = checkpoint()
    dense(source, "2_Dense", 32, 20)
    layer_norm(source, "3_LayerNorm", 20)
    states = pooled_states(source, tmp_path / "states")
    means = np.stack([x.mean(axis=0) for x in states])
    weights, norm = load_file(source / "2_Dense/model.safetensors"), load_file(source / "3_LayerNorm/model.safetensors")

    def through(x: np.ndarray) -> np.ndarray:
        return np.asarray(np.tanh(x @ weights["linear.weight"].T + weights["linear.bias"]))

    def normed(x: np.ndarray) -> np.ndarray:
        centred = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
        return np.asarray(centred * norm["norm.weight"] + norm["norm.bias"])

    first = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "n"), ("Dense", "2_Dense"), ("Dropout", "d")]
    found = vectors(listing(source, *first), tmp_path / "a")
    assert np.abs(found - unit(through(unit(means)))).max() < 1e-5
    assert np.abs(found - unit(through(means))).max() > 0.01  # which another order would give
    second = [*first[:2], ("Dense", "2_Dense"), ("Normalize", "n"), ("LayerNorm", "3_LayerNorm")]
    found = vectors(listing(source, *second, ("torch.nn.modules.linear.Identity", "i")), tmp_path / "b")
    assert np.abs(found - unit(normed(unit(through(means))))).max() < 1e-5


def test_what_changes_no_direction_makes_no_difference(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Normalize twice or at the end, Dropout, Identity: the same files, and the same fingerprint."""
    source = checkpoint()
    dense(source, "2_Dense", 32, 20)
    start, end = [("Transformer", ""), ("Pooling", "1_Pooling")], ("Dense", "2_Dense")
    sequences = [
        [*start, ("Normalize", "n"), end],
        [*start, ("Normalize", "n"), ("Dropout", "d"), ("Normalize", "n"), end, ("Normalize", "n"), ("Dropout", "d")],
        [*start, ("Normalize", "n"), ("torch.nn.Identity", "x"), end, ("Normalize", "n")],
    ]
    made = [
        export_model(listing(source, *modules), tmp_path / f"{number}", precision="fp32", floor=-1)
        for number, modules in enumerate(sequences)
    ]
    assert len({manifest.fingerprint for manifest in made}) == 1
    assert (made[0].dim, made[0].pooling) == (20, "mean")


def new_form(folder: Path, target: Path) -> Path:
    """A folder of an older release as releases since 5.4 write it."""
    shutil.copytree(folder, target)
    entries = json.loads((target / "modules.json").read_text())
    for entry in entries:
        name = entry["type"].rsplit(".", 1)[-1]
        entry["type"] = NEW[name]
        config = target / entry["path"] / "config.json"
        if name in ("Dense", "Normalize"):
            said = json.loads(config.read_text()) if config.exists() else {}
            config.parent.mkdir(exist_ok=True)
            names = dict.fromkeys(("module_input_name", "module_output_name"), "sentence_embedding")
            config.write_text(json.dumps({**said, **names}))
        elif name == "Pooling":
            said = json.loads(config.read_text())
            modes = [mode for mode in ("cls", "max", "mean") if said.get(f"pooling_mode_{mode}_{SUFFIX[mode]}")]
            modes = modes[0] if len(modes) == 1 else modes
            config.write_text(json.dumps({"embedding_dimension": 32, "pooling_mode": modes, "include_prompt": True}))
    (target / "modules.json").write_text(json.dumps(entries))
    settings = json.loads((target / "sentence_bert_config.json").read_text())
    text = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
    said = {"transformer_task": "feature-extraction", "modality_config": text, "module_output_name": "token_embeddings"}
    (target / "sentence_bert_config.json").write_text(json.dumps({**settings, **said}))
    return target


SUFFIX = {"cls": "token", "max": "tokens", "mean": "tokens"}


@pytest.mark.parametrize("poolings", [("mean",), ("cls",), ("cls", "mean"), ("cls", "max", "mean")], ids="+".join)
def test_old_and_new_form_are_one_model(checkpoint: Checkpoints, tmp_path: Path, poolings: tuple[str, ...]) -> None:
    """A folder in the words of both times gives the same bundle; of several poolings vectors stand in a row."""
    source = checkpoint()
    states = pooled_states(source, tmp_path / "states")
    flags = {f"pooling_mode_{mode}_{end}": mode in poolings for mode, end in SUFFIX.items()}
    put(source, "1_Pooling", {"word_embedding_dimension": 32, **flags, "pooling_mode_lasttoken": False})
    layer_norm(source, "2_LayerNorm", 32 * len(poolings))
    dense(source, "3_Dense", 32 * len(poolings), 24)
    modules = (("LayerNorm", "2_LayerNorm"), ("Dense", "3_Dense"), ("Normalize", "4_Normalize"))
    listing(source, ("Transformer", ""), ("Pooling", "1_Pooling"), *modules)
    manifest = export_model(source, tmp_path / "old", precision="fp32", floor=-1)
    again = export_model(new_form(source, tmp_path / "n"), tmp_path / "new", precision="fp32", floor=-1)
    assert manifest.fingerprint == again.fingerprint
    assert manifest.pooling == "+".join(poolings)
    ways = {"cls": lambda x: x[0], "max": lambda x: x.max(axis=0), "mean": lambda x: x.mean(axis=0)}
    listing(source, ("Transformer", ""), ("Pooling", "1_Pooling"))
    expected = unit(np.stack([np.concatenate([ways[mode](x) for mode in poolings]) for x in states]))
    found = vectors(source, tmp_path / "alone")
    assert found.shape == (len(TEXTS), 32 * len(poolings))
    assert np.abs(found - expected).max() < 1e-5
    embedder = Embedder(tmp_path / "alone", threads=1)
    assert np.array_equal(found, np.vstack([embedder.encode([text]) for text in TEXTS]))


def test_pooling_where_little_is_said(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """No file, no flag, or none that is true: the mean, which the class takes then."""
    source = checkpoint()
    path = source / "1_Pooling" / "config.json"
    for content in (
        None,
        {},
        {"embedding_dimension": 32},
        {"pooling_mode_mean_tokens": False},
        {"pooling_mode": ["mean"]},
    ):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(json.dumps(content))
        assert read_modules(Folder(source)).pooling == "mean"
    path.write_text(json.dumps({"pooling_mode": "weightedmean", "pooling_mode_cls_token": True}))
    assert read_modules(Folder(source)).pooling == "weighted_mean"  # the newer key counts, in all releases


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"pooling_mode": "sum"}, "pooling_mode 'sum' is not supported"),
        ({"pooling_mode": []}, "pooling_mode"),
        ({"pooling_mode": ["mean", 3]}, "pooling_mode"),
        ({"pooling_mode": {"mean": True}}, "pooling_mode"),
        ({"pooling_mode_mean_tokens": 1}, "pooling_mode_mean_tokens is 1, expected true or false"),
        ({"pooling_mode_cls_token": True}, "does not say pooling_mode_mean_tokens"),
        (
            {"pooling_mode_sum_tokens": True, "pooling_mode_mean_tokens": True},
            "'pooling_mode_sum_tokens'.*is not known",
        ),
        ({"pooling_mode": "mean", "dropout": 0.1}, "'dropout'.*is not known"),
    ],
)
def test_pooling_that_is_not_known(checkpoint: Checkpoints, tmp_path: Path, content: dict[str, Any], said: str) -> None:
    """File, key and value are named."""
    source = checkpoint()
    (source / "1_Pooling" / "config.json").write_text(json.dumps(content))
    with pytest.raises(ExportError, match=f"1_Pooling.*{said}"):
        export_model(source, tmp_path / "b")


def test_layers_are_weighted(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A WeightedLayerPooling makes tokens of the states of all layers; what int8 moves comes back."""
    source = checkpoint(output_hidden_states=True)
    pooled_states(source, tmp_path / "plain")
    embedder = Embedder(tmp_path / "plain", threads=1)
    states = [embedder.encode_tokens(TEXTS, layer=i) for i in range(3)]
    for start, weights in ((0, [0.5, -0.1, 0.9]), (1, [0.3, 2.0]), (2, [3.0])):
        put(source, "w", {"word_embedding_dimension": 32, "layer_start": start, "num_hidden_layers": 2},
            layer_weights=np.array(weights, np.float32))  # fmt: skip
        listing(source, ("Transformer", ""), (LAYER, "w"), ("Pooling", "1_Pooling"))
        mixed = [
            sum(share * layer[i].vectors for share, layer in zip(weights, states[start:], strict=True))
            for i in range(len(TEXTS))
        ]
        expected = unit(np.stack([x.mean(axis=0) for x in mixed]))
        assert np.abs(vectors(source, tmp_path / f"fp32-{start}") - expected).max() < 1e-5
        assert (vectors(source, tmp_path / f"int8-{start}", precision="int8") * expected).sum(axis=1).mean() > 0.97


@pytest.mark.parametrize(
    ("config", "weights", "said"),
    [
        ({"layer_start": 1}, [1, 2, 3], "3 weights from state 1 on; the model has 3 states"),
        ({"layer_start": 2}, [1, 2], "2 weights from state 2 on"),
        ({}, [1], "1 weights from state 4 on"),
        ({"layer_start": -1}, [1, 2, 3], "from layer -1 on"),
        ({"layer_start": 1}, [1, -1], "do not add up to a mean"),
        ({"layer_start": 1, "layers": [1]}, [1, 2], "'layers'.*is not known"),
    ],
)
def test_layers_that_do_not_fit(
    checkpoint: Checkpoints, tmp_path: Path, config: dict[str, Any], weights: list[float], said: str
) -> None:
    """Weights for other layers than the model has, or of no sum."""
    source = checkpoint(output_hidden_states=True)
    put(source, "w", config, layer_weights=np.array(weights, np.float32))
    listing(source, ("Transformer", ""), (LAYER, "w"), ("Pooling", "1_Pooling"))
    with pytest.raises(ExportError, match=said):
        export_model(source, tmp_path / "b")


def test_layers_of_a_model_that_gives_none(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Without output_hidden_states some releases fail and others pass the module over: it is refused."""
    source = checkpoint()
    put(source, "w", {"layer_start": 1}, layer_weights=np.ones(2, np.float32))
    listing(source, ("Transformer", ""), (LAYER, "w"), ("Pooling", "1_Pooling"))
    with pytest.raises(ExportError, match=r"w weights the states of all layers.*output_hidden_states"):
        export_model(source, tmp_path / "b")


def test_steps_of_tokens(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A Dense and a Normalize that say they are for tokens stand before the pooling."""
    source = checkpoint()
    states = pooled_states(source, tmp_path / "states")
    token = dict.fromkeys(("module_input_name", "module_output_name"), "token_embeddings")
    dense(source, "1_Dense", 32, 24, **token)
    put(source, "2_Normalize", token)
    weights = load_file(source / "1_Dense/model.safetensors")
    listing(source, ("Transformer", ""), ("Dense", "1_Dense"), ("Normalize", "2_Normalize"), ("Pooling", "1_Pooling"))
    tokens = [unit(np.tanh(x @ weights["linear.weight"].T + weights["linear.bias"])) for x in states]
    expected = unit(np.stack([x.mean(axis=0) for x in tokens]))
    assert np.abs(vectors(source, tmp_path / "fp32") - expected).max() < 1e-5
    assert (vectors(source, tmp_path / "int8", precision="int8") * expected).sum(axis=1).mean() > 0.97


def test_residual(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Dense modules since 5.7 may add what they read, through a layer of their own where widths differ."""
    source = checkpoint()
    means = np.stack([x.mean(axis=0) for x in pooled_states(source, tmp_path / "states")])
    dense(source, "2_Dense", 32, 32, use_residual=True)
    dense(source, "3_Dense", 32, 20, use_residual=True)
    save_file(
        {**load_file(source / "3_Dense/model.safetensors"), "residual.weight": normal(20, 32) * 2},
        source / "3_Dense/model.safetensors",
    )
    listing(source, ("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense"), ("Dense", "3_Dense"))
    first, second = (load_file(source / f"{i}_Dense/model.safetensors") for i in (2, 3))
    x = np.tanh(means @ first["linear.weight"].T + first["linear.bias"]) + means
    x = np.tanh(x @ second["linear.weight"].T + second["linear.bias"]) + x @ second["residual.weight"].T
    assert np.abs(vectors(source, tmp_path / "fp32") - unit(x)).max() < 1e-5
    assert (vectors(source, tmp_path / "int8", precision="int8") * unit(x)).sum(axis=1).mean() > 0.97


def test_truncate_dim_of_the_folder(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A folder that says truncate_dim (releases since 5.4 write it) has vectors of so many numbers."""
    source = checkpoint()
    whole = vectors(source, tmp_path / "whole")
    settings = source / "config_sentence_transformers.json"
    settings.write_text(json.dumps({"truncate_dim": 12}))
    assert np.abs(vectors(source, tmp_path / "cut") - unit(whole[:, :12])).max() < 1e-6
    settings.write_text(json.dumps({"truncate_dim": 500}))
    assert np.array_equal(vectors(source, tmp_path / "more"), whole)
    settings.write_text(json.dumps({"truncate_dim": "12"}))
    with pytest.raises(ExportError, match="truncate_dim is '12'"):
        export_model(source, tmp_path / "b")


TRANSFORMER, POOLING = ("Transformer", ""), ("Pooling", "1_Pooling")


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ([TRANSFORMER, POOLING, POOLING], "module 2, .*Pooling', can only stand between"),
        ([TRANSFORMER, TRANSFORMER, POOLING], "module 1, .*Transformer', can only stand first"),
        ([POOLING, TRANSFORMER], "module 0, .*Pooling', can only stand between"),
        ([TRANSFORMER], "lists no module that pools"),
        ([("Dropout", "d")], "module 0.*behind the pooling"),
        ([TRANSFORMER, ("Normalize", "n"), POOLING], "module 1, .*reads 'sentence_embedding'"),
        ([TRANSFORMER, ("Dense", "2_Dense"), POOLING], "module 1, .*reads 'sentence_embedding'"),
        ([TRANSFORMER, ("LayerNorm", "l"), POOLING], "module 1, .*LayerNorm', can only stand behind the pooling"),
        ([TRANSFORMER, POOLING, ("WeightedLayerPooling", "w")], "module 2, .*WeightedLayerPooling', can only stand"),
        ([TRANSFORMER, ("WordWeights", "w"), POOLING], "module 1, .*WordWeights', is not supported"),
        ([TRANSFORMER, ("CNN", "c"), POOLING], "module 1, .*CNN', is not supported"),
        ([TRANSFORMER, ("LSTM", "c"), POOLING], "module 1, .*LSTM', is not supported"),
        ([("BoW", "")], "module 0, .*BoW', is not supported"),
        ([("CLIPModel", "")], "module 0, .*CLIPModel', is not supported"),
        ([TRANSFORMER, ("sentence_transformers.sparse_encoder.models.SpladePooling", "s")], "'fill-mask'"),
        ([("sentence_transformers.sparse_encoder.models.MLMTransformer", ""), POOLING], "loaded for 'fill-mask'"),
        ([("my_code.Transformer", ""), POOLING], "module 0, 'my_code.Transformer', is no module of"),
        ([("sentence_transformers_mine.models.Transformer", ""), POOLING], "module 0, .*is no module of"),
        ([("sentence_transformers.models.sub.Transformer", ""), POOLING], "module 0, .*is no module of"),
        ([("custom_st.Transformer", ""), POOLING], "module 0, .*jina-embeddings-v3"),
        ([TRANSFORMER, POOLING, ("Dense", "../2_Dense")], "module 2, .*not in the folder"),
        ([TRANSFORMER, ("sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask", "m")],
         "other lengths than 1 without a Normalize"),
    ],
)  # fmt: skip
def test_sequences_that_are_refused(
    checkpoint: Checkpoints, tmp_path: Path, modules: list[tuple[str, str]], said: str
) -> None:
    """What no graph has a form for is named with its place."""
    source = checkpoint()
    dense(source, "2_Dense", 32, 20)
    put(source, "s", {"pooling_strategy": "max"})
    with pytest.raises(ExportError, match=said):
        export_model(listing(source, *modules), tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_entries_of_modules_json(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Two of one name, of which the reference keeps one; and keys that are not known."""
    source = listing(checkpoint(), TRANSFORMER, POOLING)
    entries = json.loads((source / "modules.json").read_text())
    entries[1]["name"] = "0"
    (source / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(ExportError, match="two modules have the name '0'"):
        export_model(source, tmp_path / "b")
    entries[1] |= {"name": "1", "weights": "other"}
    (source / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(ExportError, match="'weights' \\('other'\\) is not known"):
        export_model(source, tmp_path / "b")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"activation_function": "my.Swish"}, "activation_function 'my.Swish' is not supported"),
        ({"activation_function": "torch.nn.modules.activation.PReLU"}, "PReLU' is not supported"),
        ({"activation_function": None}, "activation_function 'None'"),
        ({"module_input_name": "token_embeddings"}, "module 2, .*reads 'token_embeddings'"),
        ({"module_output_name": "projected"}, "gives 'projected'"),
        ({"in_features": 31}, "linear.weight has the shape"),
        ({"bias": False}, "holds .*'linear.bias'"),
        ({"use_residual": True}, "'residual.weight'"),
        ({"scale": 2.0}, "'scale' \\(2.0\\) is not known"),
    ],
)
def test_dense_that_does_otherwise(checkpoint: Checkpoints, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    """Options of a Dense that are not obeyed are refused."""
    source = checkpoint()
    dense(source, "2_Dense", 32, 20, **change)
    with pytest.raises(ExportError, match=said):
        export_model(listing(source, TRANSFORMER, POOLING, ("Dense", "2_Dense")), tmp_path / "b")


def test_a_dense_without_an_activation_has_tanh(checkpoint: Checkpoints) -> None:
    """That is what the class takes."""
    source = checkpoint()
    dense(source, "2_Dense", 32, 20)
    config = json.loads((source / "2_Dense/config.json").read_text())
    config.pop("activation_function")
    (source / "2_Dense/config.json").write_text(json.dumps(config))
    folder = listing(source, TRANSFORMER, POOLING, ("Dense", "2_Dense"))
    (module,) = read_modules(Folder(folder)).after
    assert module.step.activation == "tanh"


def test_widths_that_do_not_fit(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A module that reads more numbers than it gets is named."""
    source = checkpoint()
    dense(source, "2_Dense", 33, 20)
    with pytest.raises(ExportError, match="2_Dense takes 33 numbers, a vector has 32 there"):
        export_model(listing(source, TRANSFORMER, POOLING, ("Dense", "2_Dense")), tmp_path / "b")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"transformer_task": "text-generation"}, "transformer_task is 'text-generation'"),
        ({"transformer_task": "retrieval"}, "transformer_task is 'retrieval'"),
        ({"transformer_task": "fill-mask"}, "loaded for 'fill-mask'"),
        ({"module_output_name": "sentence_embedding"}, "module_output_name is 'sentence_embedding'"),
        ({"modality_config": {"image": {"method": "forward"}}}, "modality_config is"),
        ({"modality_config": {"text": {"method": "get_text_features", "method_output_name": "x"}}}, "get_text_"),
        ({"modality_config": {"text": {"method": "forward", "method_output_name": ["hidden_states"]}}}, "hidden_st"),
        (
            {"modality_config": {
                "text": {"method": "forward", "method_output_name": "last_hidden_state"},
                "message": {"method": "forward", "method_output_name": "last_hidden_state", "format": "flat"},
            }},
            "chat",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["bert", "roberta", "xlnet"])
def test_transformer_that_gives_something_else(
    checkpoint: Checkpoints, tmp_path: Path, settings: dict[str, Any], said: str, name: str
) -> None:
    """Settings of the Transformer module by which a text has no vectors of tokens, in every file that may hold them."""
    source = checkpoint()
    (source / "sentence_bert_config.json").unlink()
    (source / f"sentence_{name}_config.json").write_text(json.dumps(settings))
    with pytest.raises(ExportError, match=said):
        export_model(source, tmp_path / "b")


def test_names_of_classes() -> None:
    """Names of both times, whole."""
    for name, path in NEW.items():
        assert module_class(path) == module_class(OLD + name) == name
    assert module_class("sentence_transformers.sentence_transformer.modules.Pooling") == "Pooling"
    assert module_class("sentence_transformers.models.Pooling.Pooling") == "Pooling"
    assert (
        module_class("sentence_transformers.sparse_encoder.modules.mlm_transformer.MLMTransformer") == "MLMTransformer"
    )
    assert module_class("sentence_transformers.sentence_transformer.modules.clip_model.CLIPModel") == "CLIPModel"
    assert module_class("sentence_transformers.sentence_transformer.modules.bow.BoW") == "BoW"
    assert module_class("sentence_transformers.models.Asym") == "Asym"
    for path in ("Transformer", "x.Transformer", "sentence_transformers.Transformer", "models.Pooling", ""):
        assert module_class(path) is None
    assert {
        name for name in PACKAGES if module_class(f"sentence_transformers.{PACKAGES[name][0]}.{name}") != name
    } == set()


def test_sparse_and_multi_in_both_forms(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """SpladePooling behind an MLMTransformer, or behind a Transformer that is loaded for fill-mask; PyLate's Dense."""
    source = sparse_folder(checkpoint("s"))
    first = export_model(source, tmp_path / "old", precision="fp32")
    pooling = source / "1_SpladePooling" / "config.json"
    said = {"pooling_strategy": "max", "activation_function": "relu", "embedding_dimension": 25}
    pooling.write_text(json.dumps(said))
    splade = "sentence_transformers.sparse_encoder.modules.splade_pooling.SpladePooling"
    listing(source, (NEW["Transformer"], ""), (splade, "1_SpladePooling"))
    (source / "sentence_bert_config.json").write_text(
        json.dumps(
            {
                "max_seq_length": 24,
                "transformer_task": "fill-mask",
                "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
                "module_output_name": "token_embeddings",
            }
        )
    )
    assert export_model(source, tmp_path / "new", precision="fp32").fingerprint == first.fingerprint
    pooling.write_text(json.dumps({**said, "temperature": 2}))
    with pytest.raises(ExportError, match="'temperature'"):
        export_model(source, tmp_path / "b")
    pooling.write_text(json.dumps(said))
    (source / "config_sentence_transformers.json").write_text(json.dumps({"max_active_dims": 0}))
    with pytest.raises(ExportError, match="max_active_dims is 0"):
        export_model(source, tmp_path / "b")
    multi = multi_folder(checkpoint("m"))
    assert len(read_checkpoint(multi).of_tokens) == 1
    assert export_model(multi, tmp_path / "multi", precision="fp32").kind == "multi"


def test_other_forms_beside_the_weights_are_left_alone(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Folders with the model for ONNX and OpenVINO, as public models have them, change nothing."""
    source = checkpoint()
    plain = export_model(source, tmp_path / "plain", precision="fp32")
    for name in ("onnx/model.onnx", "onnx/model_qint8_avx512.onnx", "openvino/openvino_model.xml"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(b"not a model")
    (source / "openvino" / "openvino_model.bin").write_bytes(b"x")
    assert export_model(source, tmp_path / "beside", precision="fp32").fingerprint == plain.fingerprint


def test_the_oldest_layout(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Folders of the first releases have the transformer in a folder of its own."""
    source = checkpoint()
    plain = export_model(source, tmp_path / "plain", precision="fp32")
    (source / "0_Transformer").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "sentence_bert_config.json"):
        (source / name).rename(source / "0_Transformer" / name)
    listing(source, ("Transformer", "0_Transformer"), POOLING, ("Normalize", "2_Normalize"))
    assert export_model(source, tmp_path / "old", precision="fp32").fingerprint == plain.fingerprint


def test_steps_that_nothing_reads_are_left_out(checkpoint: Checkpoints) -> None:
    """By `as_steps`: a Normalize before a cut, one behind another, a cut of nothing."""
    source = checkpoint()
    (source / "config_sentence_transformers.json").write_text(json.dumps({"truncate_dim": 8}))
    found = read_modules(Folder(source))
    assert [module.step.kind for module in found.after] == ["unit", "cut"]
    steps, weights = as_steps((), found.after, 32, "mean")
    assert [step.kind for step in steps["projections"]] == ["cut"]
    assert (steps["dim"], weights) == (8, {})
    assert as_steps((), found.after, 8, "mean")[0]["projections"] == ()
    assert as_steps((), found.after, 4, "cls+mean")[0]["dim"] == 8
