"""Routers, default prompts, prompts that are not pooled, and static models, against sentence-transformers: in folders
that it has saved, through encode, encode_query and encode_document. Skipped by name where it is not installed.
"""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.bert import WORDS, Checkpoints, word_tokenizer

from edge_embed import Embedder
from edge_embed.errors import ExportError
from edge_embed_export import export_model

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("short_receipt"),
    pytest.mark.skipif(
        not (find_spec("torch") and find_spec("sentence_transformers")),
        reason="needs torch and sentence-transformers (extra parity)",
    ),
]

TEXTS = [
    "the river bank",
    "a",
    "The CAT is in the garden, at night!",
    "money in the bank " * 30,
    "東京は日本の首都です。",
    "emoji 👩‍👩‍👧 of the house",
    "the red day\n",
    "",
]
PROMPTS = {"query": "money to the bank: ", "document": "day and ", "other": "the dog"}


def modules() -> Any:
    """The modules of sentence-transformers, wherever its release has them."""
    import sentence_transformers

    if find_spec("sentence_transformers.sentence_transformer"):
        from sentence_transformers.base.modules import Dense, Normalize, Router, Transformer
        from sentence_transformers.sentence_transformer import modules as own

        for kind in (Dense, Normalize, Router, Transformer):
            setattr(own, kind.__name__, kind)
        return own
    return sentence_transformers.models


def model(parts: list[Any], **options: Any) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(modules=parts, device="cpu", **options)


def random_(module: Any, seed: int) -> Any:
    """The module with random numbers."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return module


def limit(folder: Path) -> None:
    """Write the limit where all releases read it."""
    for path in folder.rglob("sentence_bert_config.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "max_seq_length": 24}))


def saved(made: Any, folder: Path) -> Path:
    """The folder of a model, its poolings as all releases read them."""
    made.save(str(folder))
    for path in folder.rglob("config.json"):
        config = json.loads(path.read_text())
        if "Pooling" in path.parent.name and "pooling_mode" in config:
            modes = {f"pooling_mode_{config['pooling_mode']}_tokens": True, "include_prompt": config["include_prompt"]}
            path.write_text(json.dumps({"word_embedding_dimension": config["embedding_dimension"], **modes}))
    limit(folder)
    return folder


@pytest.fixture
def transformer(checkpoint: Checkpoints) -> Callable[..., Any]:
    """A small random BERT as a Transformer module: transformer(seed=1)."""

    def make(seed: int = 0) -> Any:
        folder = checkpoint(f"bert{seed}")
        from tokenizers import Tokenizer
        from transformers import PreTrainedTokenizerFast

        fast = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(json.dumps({**word_tokenizer(), "truncation": None, "padding": None})),
            **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")},
            model_max_length=24,
        )
        fast.save_pretrained(folder)
        return random_(modules().Transformer(str(folder), max_seq_length=24), seed)

    return make


def static(dim: int = 16) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(json.dumps({**word_tokenizer(), "truncation": None, "padding": None}))
    return random_(modules().StaticEmbedding(tokenizer, embedding_dim=dim), 5)


def unit(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)


def difference(folder: Path, made: Any, bundle: Path, texts: list[str] = TEXTS, **options: Any) -> float:
    """The largest difference of a bundle's numbers to those of the library's model, loaded from the folder again."""
    from sentence_transformers import SentenceTransformer

    del made
    loaded, ours = SentenceTransformer(str(folder), device="cpu"), Embedder(bundle, threads=1)
    found = []
    if options.get("sides", True):
        found += [(ours.encode(texts, role="query"), loaded.encode_query(texts))]
        found += [(ours.encode(texts, role="document"), loaded.encode_document(texts))]
    if options.get("plain", True):
        found += [(ours.encode(texts), loaded.encode(texts))]
        found += [(ours.encode(texts, prompt="the cat: "), loaded.encode(texts, prompt="the cat: "))]
        for name in set(ours.prompts) - {"query", "document"}:
            found += [(ours.encode(texts, role=name), loaded.encode(texts, prompt_name=name))]
    return max(float(np.abs(a - unit(b)).max()) for a, b in found)


def export(folder: Path, bundle: Path, **options: Any) -> Any:
    return export_model(folder, bundle, precision="fp32", overwrite=True, **options)


# --- routers


def test_a_dense_for_each_side(transformer: Callable[..., Any], tmp_path: Path) -> None:
    """Roles choose; a text without a role takes the default route, whichever it is; a Dense before and behind."""
    own = modules()
    for default in ("query", "document"):
        parts = {
            side: [random_(own.Dense(24, 32), seed), random_(own.Dense(32, 12, bias=False), seed + 1)]
            for side, seed in (("query", 3), ("document", 7))
        }
        router = own.Router(parts, default_route=default)
        bert = transformer(0 if default == "query" else 1)
        chain = [bert, own.Pooling(32), random_(own.Dense(32, 24), 9), router, random_(own.Dense(12, 8), 11)]
        folder = saved(made := model(chain, prompts=PROMPTS), tmp_path / default)
        manifest = export(folder, tmp_path / "b")
        assert [adapter.roles for adapter in manifest.adapters] == [["query"], ["document"]]
        assert manifest.dim == 8
        assert difference(folder, made, tmp_path / "b") < 1e-5
        int8 = export_model(folder, tmp_path / "int8", overwrite=True)
        assert int8.receipt["adapters"]["query"]["min"] > 0.98


def test_two_networks(transformer: Callable[..., Any], tmp_path: Path) -> None:
    """Refused by the name of the file and what it says; each side is a bundle of its own."""
    own = modules()
    ways = {side: [transformer(seed), own.Pooling(32)] for side, seed in (("query", 1), ("document", 2))}
    folder = saved(made := model([own.Router(ways), own.Normalize()], prompts=PROMPTS), tmp_path / "m")
    with pytest.raises(ExportError, match=r"router_config.json: structure sends queries .*--side query"):
        export(folder, tmp_path / "b")
    for side in ("query", "document"):
        manifest = export(folder, tmp_path / side, side=side)
        assert manifest.side == side
        ours, theirs = Embedder(tmp_path / side), getattr(made, f"encode_{side}")(TEXTS)
        assert np.abs(ours.encode(TEXTS, role=side) - unit(theirs)).max() < 1e-5


def test_a_static_side(transformer: Callable[..., Any], tmp_path: Path) -> None:
    """A table for queries, a network for documents: each a bundle of its own kind."""
    own = modules()
    ways = {"query": [static(32), own.Normalize()], "document": [transformer(1), own.Pooling(32)]}
    folder = saved(made := model([own.Router(ways), own.Normalize()], prompts=PROMPTS), tmp_path / "m")
    with pytest.raises(ExportError, match="--side query"):
        export(folder, tmp_path / "b")
    texts = TEXTS[:-1]
    for side in ("query", "document"):
        assert export(folder, tmp_path / side, side=side).is_static == (side == "query")
        ours, theirs = Embedder(tmp_path / side), getattr(made, f"encode_{side}")(texts)
        assert np.abs(ours.encode(texts, role=side) - unit(theirs)).max() < 1e-5


def test_one_network_for_both(transformer: Callable[..., Any], tmp_path: Path) -> None:
    """Sides that share everything are one model, also where a release saves them twice."""
    own = modules()
    both = [transformer(1), own.Pooling(32)]
    folder = saved(made := model([own.Router({"query": both, "document": both})], prompts=PROMPTS), tmp_path / "m")
    assert not export(folder, tmp_path / "b").adapters
    assert difference(folder, made, tmp_path / "b") < 1e-5


# --- prompts


@pytest.mark.parametrize("name", ["other", "query", "document", None])
def test_default_prompt(transformer: Callable[..., Any], tmp_path: Path, name: str | None) -> None:
    """encode without a role puts the default before a text; the roles keep their own, also an empty one."""
    own = modules()
    for i, prompts in enumerate((PROMPTS, {"other": "the dog", "query": "", "document": ""})):
        made = model([transformer(i), own.Pooling(32)], prompts=prompts, default_prompt_name=name)
        folder = saved(made, tmp_path / f"m{i}")
        manifest = export(folder, tmp_path / "b")
        assert manifest.default_role == (name if name and prompts[name] else "")
        assert difference(folder, made, tmp_path / "b") < 1e-5


@pytest.mark.parametrize("mode", ["mean", "max", "lasttoken", "mean_sqrt_len_tokens", "weightedmean"])
def test_prompts_that_are_not_pooled(transformer: Callable[..., Any], tmp_path: Path, mode: str) -> None:
    """include_prompt false, for every pooling, any prompt, and the empty text."""
    own = modules()
    pooling = own.Pooling(32, pooling_mode=mode, include_prompt=False)
    folder = tmp_path / "m"
    (made := model([transformer(1), pooling], prompts=PROMPTS)).save(str(folder))
    limit(folder)
    key = {"mean": "mean_tokens", "max": "max_tokens", "weightedmean": "weightedmean_tokens"}.get(mode, mode)
    config = {"word_embedding_dimension": 32, "include_prompt": False, f"pooling_mode_{key}": True}
    if mode != "mean":
        config["pooling_mode_mean_tokens"] = False
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    assert export(folder, tmp_path / "b").left_out == ("" if mode == "lasttoken" else "prompt")
    assert difference(folder, made, tmp_path / "b") < 1e-5


# --- static models


def test_static_prompts_and_length(tmp_path: Path) -> None:
    """A table keeps its prompts, its default, and reads a long text whole."""
    long = " ".join(WORDS[(i * i) % len(WORDS)] for i in range(7000))
    for name in ("other", None):
        made = model([static()], prompts=PROMPTS, default_prompt_name=name)
        folder = saved(made, tmp_path / f"m{name}")
        export(folder, tmp_path / "b")
        # the library adds float32 numbers one after the other
        assert difference(folder, made, tmp_path / "b", [*TEXTS[:-1], long]) < 5e-5


def test_modules_behind_a_table(tmp_path: Path) -> None:
    """Linear ones are folded in; the empty text has the vector of the bias."""
    from torch.nn import Identity, Tanh

    own = modules()
    linear = random_(own.Dense(16, 24, activation_function=Identity()), 2)
    plain = random_(own.Dense(24, 12, bias=False, activation_function=Identity()), 3)
    folder = saved(made := model([static(), linear, own.Normalize(), plain], prompts=PROMPTS), tmp_path / "m")
    assert export(folder, tmp_path / "b").dim == 12
    assert difference(folder, made, tmp_path / "b") < 1e-5
    int8 = export_model(folder, tmp_path / "int8")
    assert int8.receipt["cosine_to_fp32"]["min"] > 0.99
    layer = own.Dropout(0.1) if hasattr(own, "Dropout") else own.Normalize()
    folder = saved(made := model([static(), layer, own.Normalize()]), tmp_path / "n")
    export(folder, tmp_path / "b")
    assert difference(folder, made, tmp_path / "b", TEXTS[:-1]) < 1e-5
    unknown = [
        (own.LayerNorm(16), "is a module 'LayerNorm'"),
        (own.Dense(16, 8, activation_function=Tanh()), "has the activation function torch.nn.modules.activation.Tanh"),
    ]
    for i, (module, said) in enumerate(unknown):
        folder = saved(model([static(), module]), tmp_path / f"x{i}")
        with pytest.raises(ExportError, match=said):
            export(folder, tmp_path / "x")


@pytest.mark.parametrize("lower", [False, True])
def test_word_embeddings(tmp_path: Path, lower: bool) -> None:
    """GloVe as modules: words between white space, without punctuation, then in lower case; stop words; weights."""
    own = modules()
    file = tmp_path / "glove.txt"
    words = ["cat", "u.s.", "Berlin", "berlin", "the", "'s", "...", "naïve", "東京", "and", "bank", "don't"]
    rows = np.random.default_rng(1).standard_normal((len(words), 10))
    file.write_text("".join(f"{w} {' '.join(map(str, row))}\n" for w, row in zip(words, rows, strict=True)), "utf-8")
    if find_spec("sentence_transformers.sentence_transformer"):
        from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer
    else:
        from sentence_transformers.models.tokenizer import WhitespaceTokenizer
    texts = [
        "The cat, and (Berlin) in the U.S. 's bank...",
        "u.s. U.S. cat's don't 'the' BERLIN",
        "naïve 東京\tcat ... 's",
        "Cat cat CAT CAT? " * 400,
    ]
    for stop in ([], ["the", "and", "Bank"]):
        table = own.WordEmbeddings.from_text_file(
            str(file), tokenizer=WhitespaceTokenizer(stop_words=stop, do_lower_case=lower)
        )
        weights = own.WordWeights(table.tokenizer.get_vocab(), {"cat": 0.5, "berlin": 2.0}, 0.25)
        for parts in ([table, own.Pooling(10)], [table, weights, own.Pooling(10), random_(own.Dense(10, 6), 2)]):
            if len(parts) == 4:
                from torch.nn import Identity

                parts[3].activation_function = Identity()
            folder = tmp_path / f"m{lower}{len(stop)}{len(parts)}"
            saved(made := model(parts, prompts={"query": "cat bank: "}), folder)
            manifest = export(folder, tmp_path / "b")
            assert manifest.is_static
            assert difference(folder, made, tmp_path / "b", texts) < 1e-5


# --- the exporter's own comparison


def test_verified(transformer: Callable[..., Any], tmp_path: Path, with_reference: None) -> None:
    """Sides in one bundle, with a default prompt and prompts that are not pooled; each side in a bundle of its own."""
    own = modules()
    parts = {side: [random_(own.Dense(32, 12), seed)] for side, seed in (("query", 3), ("document", 7))}
    chain = [transformer(0), own.Pooling(32, include_prompt=False), own.Router(parts, default_route="query")]
    folder = saved(model(chain, prompts=PROMPTS, default_prompt_name="other"), tmp_path / "dense")
    manifest = export(folder, tmp_path / "b", verify="require")
    assert (manifest.default_role, manifest.left_out, len(manifest.adapters)) == ("other", "prompt", 2)
    assert manifest.provenance["verified"]["largest_difference"] < 1e-5

    ways = {"query": [static(32), own.Normalize()], "document": [transformer(1), own.Pooling(32)]}
    folder = saved(model([own.Router(ways), own.Normalize()], prompts=PROMPTS), tmp_path / "ways")
    for side in ("query", "document"):
        verified = export(folder, tmp_path / side, side=side, verify="require").provenance["verified"]
        assert verified["largest_difference"] < 1e-5
        assert Embedder(tmp_path / side).manifest.side == side


def test_verified_where_the_name_says_it(transformer: Callable[..., Any], tmp_path: Path, with_reference: None) -> None:
    """Instructor's prompts are not pooled, and the reference knows that by the hub's name alone."""
    own = modules()
    folder = saved(model([transformer(0), own.Pooling(32)], prompts=PROMPTS), tmp_path / "instructor-base")
    manifest = export(folder, tmp_path / "b", verify="require")
    assert manifest.left_out == "prompt"
    assert manifest.provenance["verified"]["largest_difference"] < 1e-5
