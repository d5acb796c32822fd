"""Adapters that a bundle keeps apart: chosen at run time, they give what the same adapter folded in gives."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.architectures import MODELS, TASKS, Model, write
from builders.bert import WORDS
from click.testing import CliRunner
from safetensors.numpy import save_file

from edge_embed import ComposedEmbedder, Document, Embedder, Index
from edge_embed.cli.main import main
from edge_embed.errors import BundleFormatError, BundleMismatchError, ExportError, InputError
from edge_embed_export import export_model
from edge_embed_export.calibration import texts as shipped
from edge_embed_export.receipt import dense, finish
from edge_embed_export.variants import low_rank
from edge_embed_runtime.bundle.adapters import Adapter, Adapters, parse_adapters
from edge_embed_runtime.bundle.bundle import read_bundle, write_bundle

TEXTS = ["the river bank", "money at the bank and in the house", "a cat", "", "the dog is in the garden at night " * 9]
INSTRUCTION = "the river "


def some_texts(part: str) -> list[str]:
    random = np.random.default_rng(len(part))
    return [" ".join(random.choice(WORDS, size)) for size in random.integers(0, 23, 96)]


@pytest.fixture(scope="module", autouse=True)
def known_words() -> Iterator[None]:
    """Exports calibrate and measure on a few texts of words that the tiny tokenizer knows."""
    judged = shipped.records("judged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shipped, "calibration_texts", some_texts)
        patch.setattr(finish, "calibration_texts", lambda part: some_texts(part)[::8])
        patch.setattr(finish, "records", lambda _: [judged[0], {**judged[-1], "relevant": ["p000"]}])
        patch.setattr(dense, "SPEED_ROUNDS", 1)
        yield


def lora(model: Model, folder: Path, rank: int, size: float = 0.15, only: str = "") -> Path:
    """A random adapter in peft's format for the linear layers of a small model."""
    random, changes = np.random.default_rng(rank), {}
    for name, array in model.tensors.items():
        if array.ndim == 2 and any(c.isdigit() for c in name) and "norm" not in name.lower() and only in name:
            module = f"base_model.model.{name.removesuffix('.weight')}"
            for part, shape in (("A", (rank, array.shape[1])), ("B", (array.shape[0], rank))):
                changes[f"{module}.lora_{part}.weight"] = (random.standard_normal(shape) * size).astype(np.float32)
    folder.mkdir(parents=True)
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    save_file(changes, folder / "adapter_model.safetensors")
    return folder


@dataclasses.dataclass
class Made:
    """Bundles of one model: with all tasks apart, without any, and with one of them folded in, by precision."""

    source: Path
    apart: dict[str, Path]
    base: dict[str, Path]
    folded: dict[str, Path]


@pytest.fixture(scope="module")
def jina(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("jina")
    source = write(MODELS["jina_v3"](), root / "source")
    made = Made(source, {}, {}, {})
    for precision in ("fp32", "int8"):
        for kind, task in (("apart", "all"), ("base", None), ("folded", "text-matching")):
            path = root / f"{kind}-{precision}"
            export_model(source, path, precision=precision, task=task, floor=0.9)
            getattr(made, kind)[precision] = path
    return made


def same(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    return np.array_equal(a.view(np.uint32), b.view(np.uint32))


def test_every_task_is_the_one_that_is_folded_in(jina: Made) -> None:
    """In float32 to 1e-5 for each of Jina v3's tasks, its table of tokens included; without one, the base's bits."""
    apart = Embedder(jina.apart["fp32"], threads=1)
    assert apart.adapters == tuple(TASKS)
    base = Embedder(jina.base["fp32"], threads=1).encode(TEXTS)
    assert same(apart.encode(TEXTS), base)
    folded = Embedder(jina.folded["fp32"], threads=1).encode(TEXTS)
    found = {task: apart.encode(TEXTS, adapter=task, prompt="") for task in TASKS}
    assert np.abs(found["text-matching"] - folded).max() < 1e-5
    vectors = [base, *found.values()]
    assert max((a * b).sum(axis=1).max() for i, a in enumerate(vectors) for b in vectors[:i]) < 0.995


def test_int8_keeps_adapters(jina: Made) -> None:
    """As near to the float model as the bundle with the adapter folded in, which takes no other weights."""
    exact = Embedder(jina.folded["fp32"], threads=1).encode(TEXTS)
    folded = Embedder(jina.folded["int8"], threads=1).encode(TEXTS)
    apart = Embedder(jina.apart["int8"], threads=1).encode(TEXTS, adapter="text-matching", prompt="")
    assert (apart * exact).sum(axis=1).min() > (folded * exact).sum(axis=1).min() - 0.005
    assert (apart * exact).sum(axis=1).min() > 0.985
    receipt = read_bundle(jina.apart["int8"]).manifest.receipt["adapters"]
    assert list(receipt) == TASKS
    assert all(0.98 < figures["mean"] <= 1 for figures in receipt.values())


def test_a_text_has_one_vector_with_each_adapter(jina: Made) -> None:
    """Alone, in a batch, at any padding, in batches of any size and on two threads: the same bits."""
    one, two = Embedder(jina.apart["int8"], threads=1), Embedder(jina.apart["int8"], threads=2)
    for number, task in enumerate(TASKS, start=1):
        vectors = one.encode(TEXTS, adapter=task, prompt="")
        assert same(vectors, np.vstack([one.encode([text], adapter=task, prompt="") for text in TEXTS]))
        assert same(vectors, one.network.run([one.tokenizer.encode(text) for text in TEXTS], number))
        assert same(vectors, two.encode(TEXTS, adapter=task, prompt="", batch_tokens=8))


def test_roles_have_adapters_and_prompts(jina: Made) -> None:
    """Jina's tasks of retrieval belong to the two roles; a task named by the caller brings its own instruction."""
    embedder = Embedder(jina.apart["fp32"], threads=1)
    query = embedder.encode_query(TEXTS)
    assert same(query, embedder.encode(TEXTS, adapter="retrieval.query", prompt=INSTRUCTION))
    assert same(query, embedder.encode(TEXTS, adapter="retrieval.query"))
    passage = embedder.encode_document(TEXTS)
    assert same(
        passage, embedder.encode([INSTRUCTION + text for text in TEXTS], adapter="retrieval.passage", prompt="")
    )
    assert (query * passage).sum(axis=1).max() < 0.99
    plain = embedder.encode([INSTRUCTION + text for text in TEXTS])
    assert same(plain, embedder.encode_query(TEXTS, adapter="base"))
    assert not same(plain, query)


def test_one_adapter_for_all_texts(jina: Made, tmp_path: Path) -> None:
    """Embedder(adapter=...) is a space of its own: its index opens with no other."""
    chosen = Embedder(jina.apart["int8"], threads=1, adapter="text-matching")
    free, base = Embedder(jina.apart["int8"], threads=1), Embedder(jina.apart["int8"], threads=1, adapter="base")
    assert len({chosen.fingerprint, free.fingerprint, base.fingerprint}) == 3
    assert free.fingerprint == free.manifest.fingerprint
    assert same(chosen.encode_query(TEXTS), free.encode(TEXTS, adapter="text-matching"))
    assert same(chosen.encode(TEXTS, adapter="base"), free.encode(TEXTS))
    documents = [Document(key=str(i), text=text) for i, text in enumerate(TEXTS) if text]
    for embedder, other in ((chosen, free), (free, chosen)):
        path = tmp_path / f"{embedder.fingerprint}.db"
        with Index.open(path, embedder) as index:
            index.add(documents)
            assert index.search("a cat", k=1, mode="vector")[0].key == "2"
        with pytest.raises(BundleMismatchError, match="embed it again"):
            Index.open(path, other)


def test_adapters_are_composed(jina: Made, tmp_path: Path) -> None:
    """Two adapters of one Embedder as members: their mean, and one behind the other; another one is another space."""
    embedder = Embedder(jina.apart["int8"], threads=1)
    first, second = (embedder.encode(TEXTS, adapter=task) for task in TASKS[1:])
    parts = [((embedder, task), 1.0) for task in TASKS[1:]]
    both = ComposedEmbedder(parts)
    assert np.abs(both.encode(TEXTS) - np.hstack([first, second]) / np.sqrt(2)).max() < 1e-6
    mean = (first + second) / np.linalg.norm(first + second, axis=1, keepdims=True)
    assert np.abs(ComposedEmbedder(parts, mode="mean").encode(TEXTS) - mean).max() < 1e-6
    with Index.open(tmp_path / "both.db", both) as index:
        index.add([Document(key="cat", text="a cat"), Document(key="bank", text="money at the bank")])
        assert index.search("a cat", k=1, mode="vector")[0].key == "cat"
    with pytest.raises(BundleMismatchError):
        Index.open(tmp_path / "both.db", ComposedEmbedder([((embedder, "base"), 1.0), parts[1]]))


@pytest.mark.parametrize("name", ["typo", "", 7, "Base"])
def test_unknown_adapter_is_named(jina: Made, embedder: Embedder, name: Any) -> None:
    """With what the bundle has, also where that is nothing; before a text is embedded."""
    with pytest.raises(InputError, match=r"no adapter .*retrieval\.query, retrieval\.passage, text-matching; 'base'"):
        Embedder(jina.apart["int8"], threads=1).encode(TEXTS, adapter=name)
    with pytest.raises(InputError, match="no adapter"):
        Embedder(jina.apart["int8"], threads=1, adapter=name)
    with pytest.raises(InputError, match="it has no adapters; 'base' means none"):
        embedder.encode(TEXTS, adapter=name)
    assert same(embedder.encode(["a cat"], adapter="base"), embedder.encode(["a cat"]))


@pytest.mark.parametrize("name", ["qwen3", "jina_v2", "albert"])
def test_peft_adapters_of_other_families(tmp_path: Path, name: str) -> None:
    """Grouped queries and norms of them, gates, shared layers: two adapters of different ranks, of which one leaves
    most layers alone, against each folded in."""
    model = MODELS[name]()
    source = write(model, tmp_path / "source")
    small = "q_proj" if name == "qwen3" else "query"
    folders = {"wide": lora(model, tmp_path / "wide", 3), "small": lora(model, tmp_path / "small", 1, only=small)}
    manifest = export_model(source, tmp_path / "apart", adapters=folders)
    exact = export_model(source, tmp_path / "exact", adapters=folders, precision="fp32")
    assert [adapter.name for adapter in manifest.adapters] == ["wide", "small"]
    assert exact.adapters == manifest.adapters
    apart, quantized = (Embedder(tmp_path / kind, threads=1) for kind in ("exact", "apart"))
    for adapter, folder in folders.items():
        export_model(source, tmp_path / f"{adapter}-folded", adapter=folder, precision="fp32")
        folded = Embedder(tmp_path / f"{adapter}-folded", threads=1).encode(TEXTS)
        found = apart.encode(TEXTS, adapter=adapter)
        assert np.abs(found - folded).max() < 1e-5
        assert np.abs(found - apart.encode(TEXTS)).max() > 1e-3
        assert (quantized.encode(TEXTS, adapter=adapter) * folded).sum(axis=1).min() > 0.98


def test_given_adapters_leave_the_base_alone(tmp_path: Path) -> None:
    """A small adapter: int8 vectors without it are those of the bundle without adapters, bit for bit, and the bundle is
    larger by the adapter and nothing else."""
    model = MODELS["bert"]()
    source = write(model, tmp_path / "source")
    folder = lora(model, tmp_path / "law", 2, size=0.05)
    run = CliRunner().invoke(main, ["export", str(source), str(tmp_path / "base"), "--floor=0.9", "--json"])
    assert run.exit_code == 0, run.output
    options = ["--adapters", f"query={folder}", "--adapters", f"law={folder}", "--floor=0.9", "--json"]
    run = CliRunner().invoke(main, ["export", str(source), str(tmp_path / "both"), *options])
    assert run.exit_code == 0, run.output
    both, base = Embedder(tmp_path / "both", threads=1), Embedder(tmp_path / "base", threads=1)
    assert same(both.encode(TEXTS), base.encode(TEXTS))
    assert same(both.encode_query(TEXTS), both.encode(TEXTS, adapter="law"))
    assert not same(both.encode_query(TEXTS), both.encode_document(TEXTS))
    sizes = [(tmp_path / name / "model.onnx").stat().st_size for name in ("both", "base")]
    numbers = 2 * sum(2 * sum(array.shape) for name, array in model.tensors.items() if adapted(name, array))
    nodes = 1000 * sum(adapted(name, array) for name, array in model.tensors.items())
    assert sizes[0] - sizes[1] < 2 * numbers + nodes
    assert sorted(entry.name for entry in (tmp_path / "both").iterdir()) == sorted(
        entry.name for entry in (tmp_path / "base").iterdir()
    )
    hashes = read_bundle(tmp_path / "both").manifest.provenance["adapters_sha256"]
    assert list(hashes) == ["query", "law"]


def adapted(name: str, array: np.ndarray[Any, Any]) -> bool:
    return array.ndim == 2 and any(c.isdigit() for c in name)


def test_commands_take_adapters(jina: Made, tmp_path: Path) -> None:
    """`encode --adapter`, `add` and `search` with an adapter for all texts; `info` lists them with their roles."""
    bundle = str(jina.apart["int8"])
    (tmp_path / "lines.txt").write_text("a cat\nthe river bank\n")
    output = tmp_path / "v.npy"
    options = ["-o", str(output), "--bundle", bundle, "--adapter", "text-matching"]
    run = CliRunner().invoke(main, ["encode", str(tmp_path / "lines.txt"), *options])
    assert run.exit_code == 0, run.output
    expected = Embedder(bundle, threads=1).encode(["a cat", "the river bank"], adapter="text-matching")
    assert same(np.load(output), expected)
    shown = CliRunner().invoke(main, ["info", bundle]).output
    assert "adapter       retrieval.query (of query), prompt 'the river '" in shown
    assert "adapter       text-matching, prompt" in shown
    index = str(tmp_path / "i.db")
    added = CliRunner().invoke(main, ["add", index, str(tmp_path / "lines.txt"), *options[2:]])
    assert added.exit_code == 0, added.output
    assert CliRunner().invoke(main, ["search", index, "a cat", *options[2:]]).exit_code == 0
    refused = CliRunner().invoke(main, ["search", index, "a cat", "--bundle", bundle])
    assert refused.exit_code == 1
    assert "holds vectors of the bundle" in refused.output
    typo = CliRunner().invoke(main, ["encode", str(tmp_path / "lines.txt"), *options[:-1], "typo"])
    assert typo.exit_code == 1
    assert "has no adapter 'typo'" in typo.output


def test_what_cannot_be_kept_apart_is_named(tmp_path: Path, jina: Made) -> None:
    """An adapter of DeBERTa's keys, which its positions are projected with; one that changes nothing; bad names."""
    model = MODELS["deberta"]()
    source = write(model, tmp_path / "deberta")
    with pytest.raises(ExportError, match=r"'law' changes layers\.0\.position_key.*fold it in instead"):
        export_model(source, tmp_path / "out", adapters={"law": lora(model, tmp_path / "law", 2, only="key")})
    with pytest.raises(ExportError, match="'none' changes nothing"):
        export_model(source, tmp_path / "out", adapters={"none": lora(model, tmp_path / "none", 2, size=0.0)})
    for name in ("base", " ", "a\nb"):
        with pytest.raises(InputError, match="cannot be named"):
            export_model(source, tmp_path / "out", adapters={name: tmp_path / "law"})
    with pytest.raises(ExportError, match="task 'all' means every adapter of the model; it has none"):
        export_model(source, tmp_path / "out", task="all")
    with pytest.raises(InputError, match="names that differ"):
        export_model(jina.source, tmp_path / "out", task="all", adapters={"text-matching": tmp_path / "law"})
    run = CliRunner().invoke(main, ["export", str(source), str(tmp_path / "out"), "--adapters", "law"])
    assert run.exit_code == 2
    assert "--adapters law=FOLDER" in run.output
    assert not (tmp_path / "out").exists()


def test_other_kinds_have_no_adapters(tmp_path: Path) -> None:
    """Adapters are chosen where texts get vectors; a model of a vector for each token refuses them."""
    model = MODELS["bert"]()
    source = write(model, tmp_path / "source")
    markers = {"query_prefix": "the", "document_prefix": "a", "query_length": 8, "document_length": 20}
    (source / "config_sentence_transformers.json").write_text(json.dumps(markers))
    with pytest.raises(InputError, match="of kind 'multi'; adapters are kept apart for dense vectors only"):
        export_model(source, tmp_path / "out", kind="multi", adapters={"law": lora(model, tmp_path / "law", 2)})


@pytest.mark.slow
def test_low_rank_finds_the_factors() -> None:
    """Of a change of any rank up to 512, whatever its size, but for what rounding left in it; of none beyond."""
    random = np.random.default_rng(0)
    for rank, n, m in ((1, 5, 7), (16, 40, 30), (40, 90, 80)):
        weight = random.standard_normal((n, m)).astype(np.float32)
        change = 1e-2 * random.standard_normal((n, rank)) @ random.standard_normal((rank, m))
        changed = (weight + change).astype(np.float32)
        factors = low_rank(changed.astype(np.float64) - weight, float(np.abs(changed).max()))
        assert factors is not None
        assert factors[0].shape == (n, min(rank, n, m))
        assert np.abs(factors[0] @ factors[1] - change).max() < 1e-6
    assert low_rank(random.standard_normal((600, 600)), 1.0) is None


def test_manifest_with_adapters_that_cannot_be(jina: Made, tmp_path: Path) -> None:
    """A manifest is read before anything is run: names twice, roles twice, no list; adapters that the model has not."""
    good = {"name": "a", "roles": ["query"], "prompt": None}
    assert parse_adapters([good]) == [Adapter("a", ["query"])]
    for bad in ("a", [good, good], [good, {**good, "name": "b"}], [{**good, "name": "base"}], [{**good, "name": 1}],
                [{**good, "prompt": 1}], [{**good, "roles": [1]}], [{"name": "a"}], [good] * 2000):  # fmt: skip
        with pytest.raises((TypeError, ValueError, KeyError)):
            parse_adapters(bad)
    base = read_bundle(jina.base["int8"])
    manifest = dataclasses.replace(base.manifest, adapters=[Adapter("law")])
    files = {name: (jina.base["int8"] / name).read_bytes() for name in base.manifest.files}
    write_bundle(tmp_path / "lying", manifest, files)
    with pytest.raises(BundleFormatError, match="names adapters, which the model does not have"):
        Embedder(tmp_path / "lying", threads=1)
    assert manifest.fingerprint != base.manifest.fingerprint
    assert "adapters" not in json.loads((jina.base["int8"] / "manifest.json").read_text())


def test_prompts_of_adapters() -> None:
    """One without a prompt takes the role's; one with a prompt, even an empty one, brings it for every role."""
    given = [Adapter("law"), Adapter("match", [], ""), Adapter("find", ["query"], "find: ")]
    roles = {"query": "q: ", "document": "d: "}
    for chosen, expected in ((None, roles), ("law", roles), ("match", {"query": "", "document": ""}), ("base", roles)):
        assert Adapters(given, chosen, "it").prompts(roles) == expected
    free = Adapters(given, None, "it")
    assert free.choose(None, "query") == (3, None)
    assert free.choose(None, "document") == free.choose("base", "query") == (0, None)
    assert free.choose("find", None) == (3, "find: ")
    assert Adapters(given, "law", "it").choose(None, "query") == (1, None)


def test_embedded_bundles_have_none(bundle: Path) -> None:
    """Manifests from before there were adapters are what they were."""
    assert read_bundle(bundle).manifest.adapters == []
