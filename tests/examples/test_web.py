"""examples/web: a bundle that Python made gives the same vectors in Chromium and in Node."""

import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tokenizers
from builders.bert import WORDS, bert_folder
from builders.browser import Page, chromium
from builders.heads import sparse_folder
from builders.hostile_tokenizers import charmap, split, template, trie
from builders.towerbundles import clip_folder
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from edge_embed import Embedder
from edge_embed.embedder import bundle_path
from edge_embed_export import export_model
from edge_embed_export.transformer import builder
from edge_embed_runtime.inputs.tokenizer import Tokenizer, sanitize

EXAMPLE = Path(__file__).parents[2] / "examples" / "web"
TEXTS = [
    "",
    "where is the cat?",
    "Les données restent sur l'appareil ; 数据保留在设备上。",
    "a\x00b\x01c\td\re\x7f  \u3000 f\u200bg\ufeff",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇫🇷 👍🏽 🫠",
    "İstanbul ŞIŞE ẞ ß e\u0301 ﬁ ½ ① ǅ 𝔘𝔫𝔦 Ω",
    "العربية नमस्ते ไทย 한국어 カタカナ 㐀𠀀𪜀豈",
    "[CLS] [SEP] [MASK] ##ing http://a.b/c?d=e&f=g#h don't",
    "x" * 5000,
    "word 数据 " * 3000,
]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
# What small tokenizers are trained on.
CORPUS = [text for text in TEXTS if len(text) < 100] + [f"{word} {word}s" for word in WORDS]
# How often a query is timed.
ROUNDS = 30

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("short_receipt")]


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with its packages from npm, at the releases that it names."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("needs node and npm (on Debian: apt install nodejs npm)")
    folder = tmp_path_factory.mktemp("example") / "web"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    shutil.copy(Path(__file__).parent / "web.mjs", folder)
    # scripts of packages would download builds for GPUs
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        report = pytest.fail if os.environ.get("CI") else pytest.skip
        report(f"npm could not install the packages of the example: {done.stderr[-500:]}")
    return folder


def in_node(example: Path, bundle: Path, texts: Any, engine: str = "onnxruntime-node", **options: Any) -> Any:
    given = json.dumps({"bundle": str(bundle), "texts": texts, "role": None, **options})
    command = ["node", "web.mjs", engine]
    done = subprocess.run(command, cwd=example, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def lowest_cosine(bundle: Path, texts: list[str], found: list[list[float]], role: str | None = None) -> float:
    """Of vectors from elsewhere with those of onnxruntime in Python; of a static bundle with those that there are."""
    engine = None if (bundle / "table.safetensors").exists() else "onnxruntime"
    expected = Embedder(bundle, threads=1, engine=engine).encode(texts, role=role)
    return float((expected * np.array(found, np.float32)).sum(axis=1).min())


def tokens_of(bundle: Path, texts: list[str]) -> list[list[int]]:
    return [row.tolist() for row in Embedder(bundle, threads=1).tokenizer.encode_all(texts)]


@pytest.mark.parametrize("engine", ["onnxruntime-node", "onnxruntime-web"])
def test_node_gives_the_vectors(example: Path, engine: str) -> None:
    """The default bundle in both packages for Node, texts of many scripts, hostile and far too long among them."""
    bundle = bundle_path("minilm")
    found = in_node(example, bundle, TEXTS, engine)
    assert found["tokens"] == tokens_of(bundle, TEXTS)
    assert found["cosine"] >= 0.999
    assert lowest_cosine(bundle, TEXTS, found["vectors"]) > 0.999


Definition = dict[str, Any]


def definition_of(tokenizer: tokenizers.Tokenizer) -> Definition:
    return json.loads(tokenizer.to_str())  # type: ignore[no-any-return]


def bpe() -> Definition:
    """In RoBERTa's form."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return definition_of(made)


def unigram() -> Definition:
    """In XLM-RoBERTa's, with another normalizer."""
    made = tokenizers.Tokenizer(models.Unigram())
    made.normalizer, made.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>")  # noqa: S106 - no password
    made.train_from_iterator(CORPUS, trainer)
    special = [("<s>", 0), ("</s>", 2)]
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=special)
    return definition_of(made)


def mapped() -> Definition:
    """With SentencePiece's map of characters, which takes joiners out of emoji, and of which a text is a grapheme."""
    changes = {"\u200d": "", "A": "a", "ﬁ": "fi", "e\u0301": "é", "数": "the river", "🫠": "house"}
    places, texts = {}, b""
    for text, other in changes.items():
        places[text] = len(texts)
        texts += other.encode() + b"\0"
    return {**unigram(), "normalizer": charmap(trie(places), texts)}


def cased_words() -> Definition:
    """In BERT's, with capitals."""
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="<unk>"))  # noqa: S106 - no password
    made.normalizer = normalizers.BertNormalizer(lowercase=False)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=SPECIAL))
    made.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 0))
    return definition_of(made)


@pytest.mark.parametrize("make", [bpe, unigram, mapped, cased_words])
def test_tokenizers_of_other_kinds(example: Path, tmp_path: Path, make: Callable[[], Definition]) -> None:
    """The same ids as in Python, texts cut in the same place, special tokens that are typed among them."""
    definition = sanitize(make())
    (tmp_path / "tokenizer.json").write_bytes(definition)
    texts = [*TEXTS, *CORPUS, "<s> a </s> <unk>"]
    found = in_node(example, tmp_path, texts, tokenizer=str(tmp_path / "tokenizer.json"), max_tokens=40)
    assert found["tokens"] == [row.tolist() for row in Tokenizer(definition, 40).encode_all(texts)]


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("model", {"type": "WordLevel", "vocab": {"<unk>": 0, "a": 1}, "unk_token": "<unk>"}),
        ("pre_tokenizer", {"type": "Whitespace"}),
        ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [{"type": "Punctuation", "behavior": "Isolated"}]}),
        ("pre_tokenizer", {**split(r"\\d"), "behavior": "MergedWithNext"}),
        ("pre_tokenizer", {"type": "UnicodeScripts"}),
        ("post_processor", {**template(), "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}]}),
    ],
)
def test_tokenizers_that_javascript_reads_otherwise_are_refused(
    example: Path, tmp_path: Path, part: str, other: Definition
) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({**cased_words(), part: other}))
    found = in_node(example, tmp_path, ["a"], tokenizer=str(tmp_path / "tokenizer.json"), max_tokens=40)
    names = [other["type"], *(step["type"] for step in other.get("pretokenizers", ()))]
    assert "surround" in found["error"] if part == "post_processor" else names[-1] in found["error"]


def test_static_tables_need_no_engine(example: Path) -> None:
    bundle = bundle_path("static")
    found = in_node(example, bundle, TEXTS)
    assert found["tokens"] == tokens_of(bundle, TEXTS)
    expected = Embedder(bundle).encode(TEXTS)
    assert np.abs(expected - np.array(found["vectors"], np.float32)).max() < 1e-6


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A portable bundle of a small random BERT, with prompts."""
    folder = tmp_path_factory.mktemp("small")
    source = bert_folder(folder / "model")
    export_model(
        source, folder / "bundle", portable=True, prompts={"query": "the cat ", "document": "a "}, verify="skip"
    )
    return folder / "bundle"


def test_weights_in_a_second_file(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in bundles of more than 2 GiB; Node reads them, and WebAssembly where they fit into its memory."""
    monkeypatch.setattr(builder, "APART_BYTES", 512)
    monkeypatch.setattr(builder, "LARGEST", 10_000)
    export_model(bert_folder(tmp_path / "model"), tmp_path / "large", verify="skip")
    assert (tmp_path / "large" / "model.weights").exists()
    for engine in ("onnxruntime-node", "onnxruntime-web"):
        found = in_node(example, tmp_path / "large", ["the river bank"], engine)
        assert "error" not in found, found
        assert lowest_cosine(tmp_path / "large", ["the river bank"], found["vectors"]) > 0.999


@pytest.mark.parametrize("role", [None, "query", "document"])
def test_portable_bundles_and_prompts(example: Path, small: Path, role: str | None) -> None:
    texts = ["the river bank", "money at night " * 20, ""]
    for engine in ("onnxruntime-node", "onnxruntime-web"):
        found = in_node(example, small, texts, engine, role=role)
        assert lowest_cosine(small, texts, found["vectors"], role) > 0.999


def test_texts_of_a_model_of_pictures(example: Path, tmp_path: Path) -> None:
    """The model of pictures is not read."""
    export_model(clip_folder(tmp_path / "clip"), tmp_path / "bundle", verify="skip")
    texts = ["a cat", "THE river bank " * 30, ""]
    expected = Embedder(tmp_path / "bundle", threads=1, engine="onnxruntime").encode(texts)
    (tmp_path / "bundle" / "image.onnx").unlink()
    found = in_node(example, tmp_path / "bundle", texts)
    assert "error" not in found, found
    assert float((expected * np.array(found["vectors"], np.float32)).sum(axis=1).min()) > 0.999


def test_what_the_module_does_not_know_is_refused(example: Path, small: Path, tmp_path: Path) -> None:
    """A damaged file, a bundle of another kind."""
    damaged = Path(shutil.copytree(small, tmp_path / "damaged"))
    content = bytearray((damaged / "tokenizer.json").read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / "tokenizer.json").write_bytes(content)
    assert in_node(example, damaged, ["a"])["error"] == "tokenizer.json is damaged: its sha256 differs"
    export_model(sparse_folder(bert_folder(tmp_path / "sparse")), tmp_path / "other", floor=-1.0, verify="skip")
    assert "the bundle has kind" in in_node(example, tmp_path / "other", ["a"])["error"]


@pytest.mark.parametrize(
    ("said", "role", "why"),
    [
        ({"schema": 5}, None, "schema version 5; this module reads up to 4"),
        ({"inputs": "words"}, None, "the bundle has inputs"),
        ({"files": {}}, None, "no model for texts"),
        ({"side": "query"}, "document", "for the role query alone"),
        ({}, "passage", "no role passage"),
        ({}, "constructor", "no role constructor"),
    ],
)
def test_what_a_manifest_says_is_refused_by_name(
    example: Path, small: Path, tmp_path: Path, said: dict[str, Any], role: str | None, why: str
) -> None:
    bundle = Path(shutil.copytree(small, tmp_path / "bundle"))
    manifest = json.loads((small / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, **said}))
    assert why in in_node(example, bundle, ["a"], role=role)["error"]


def test_a_manifest_that_is_none_is_named(example: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("<html>")
    assert in_node(example, tmp_path, ["a"])["error"].startswith("manifest.json is not JSON: ")


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["\ud800"], "half a surrogate pair"),
        ([None], "a text must be a string, not null"),
        ([7], "a text must be a string, not 7"),
        ("the river", "texts must be an array"),
        (None, "texts must be an array"),
    ],
)
def test_what_is_no_text_is_refused(example: Path, small: Path, texts: Any, why: str) -> None:
    assert why in in_node(example, small, texts)["error"]


def test_the_program_searches(example: Path) -> None:
    command = ["node", "search.mjs", str(bundle_path("minilm")), "when do I catch the train?"]
    done = subprocess.run(command, cwd=example, capture_output=True, text=True, check=True)
    first, *_, last = done.stdout.splitlines()
    assert first.endswith("A train to Lyon leaves at noon from platform three.")
    assert "ms for the query" in last


@pytest.fixture(scope="session")
def address(example: Path, small: Path) -> Iterator[str]:
    """Where the example is served, as its own program serves it: its bundles are /bundle, /static and /small."""
    serving = module_of(example / "serve.py").server(
        {"bundle": bundle_path("minilm"), "static": bundle_path("static"), "small": small}
    )
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    thread.join()
    serving.server_close()


def module_of(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as browser:
        yield browser


ASK = """
const [texts, rounds, done] = arguments;
ready.then(async (model) => {
  const vectors = (await model.encode(texts)).map((vector) => Array.from(vector));
  const golden = (await model.encode(model.manifest.golden.map(({ text }) => text))).map((v) => Array.from(v));
  const times = [];
  for (let i = 0; i < rounds; i++) {
    const began = performance.now();
    await model.encode(["when do I catch the train?"]);
    times.push(performance.now() - began);
  }
  const tokens = texts.map((text) => model.texts.encode(text));
  done({ vectors, golden, times, tokens, isolated: crossOriginIsolated });
}).catch((error) => done({ error: error.message }));
"""


def asked(page: Page, address: str, texts: list[str]) -> Any:
    page.open(address)
    return page.browser.execute_async_script(ASK, texts, ROUNDS)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("name", "folder"), [("minilm", "bundle"), ("static", "static")])
def test_chromium_reproduces_golden_vectors(
    page: Page, address: str, capsys: pytest.CaptureFixture[str], name: str, folder: str, threads: int
) -> None:
    """Compared here, not only by the page; and hostile texts. Prints ms for a query beside native Python's."""
    bundle = bundle_path(name)
    found = asked(page, f"{address}/?bundle={folder}&threads={threads}", TEXTS)
    assert "error" not in found
    assert found["isolated"], "threads cannot share memory"
    golden = json.loads((bundle / "manifest.json").read_text())["golden"]
    for expected, vector in zip(golden, found["golden"], strict=True):
        a, b = np.array(expected["vector"]), np.array(vector)
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) >= 0.999
    assert found["tokens"] == tokens_of(bundle, TEXTS)
    assert lowest_cosine(bundle, TEXTS, found["vectors"]) > 0.999
    embedder, times = Embedder(bundle, threads=threads), []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        embedder.encode_query(["when do I catch the train?"])
        times.append(1000 * (time.perf_counter() - began))
    with capsys.disabled():
        print(  # noqa: T201 - figures for whoever runs it
            f"\n{name}, {threads} threads: {statistics.median(found['times']):.2f} ms a query in Chromium (least "
            f"{min(found['times']):.2f}), {statistics.median(times):.2f} in Python (least {min(times):.2f})"
        )


def test_the_page_searches(page: Page, address: str) -> None:
    """What a person types ranks the texts; errors are shown, and the console stays empty."""
    page.open(f"{address}/")
    page.wait("document.getElementById('took').textContent.includes('ms for the query')")
    assert page.texts("#hits li")[0].startswith("A train to Lyon")
    assert "golden texts reproduced" in page.texts("#status")[0]
    page.run("const q = document.getElementById('query'); q.value = 'music'; q.dispatchEvent(new Event('input'));")
    page.wait("document.querySelector('#hits li').textContent.startsWith('She plays the violin')")
    assert page.log() == []
    page.open(f"{address}/?bundle=nowhere")
    page.wait("document.getElementById('status').textContent.startsWith('It failed: ')")
    assert "the server says 404" in page.texts("#status")[0]


def test_the_page_says_what_is_missing(page: Page, example: Path, tmp_path: Path) -> None:
    """Without the packages no code of the page runs."""
    with module_of(example / "serve.py").server({"node_modules": tmp_path}) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        page.open(f"http://127.0.0.1:{serving.server_port}/")
        page.wait("document.getElementById('status').textContent.includes('npm install')")
        page.log()  # of the files that are not there
        serving.shutdown()
        thread.join()


def test_portable_bundles_in_chromium(page: Page, address: str, small: Path) -> None:
    texts = ["the river bank", "money at night " * 20]
    found = asked(page, f"{address}/?bundle=small", texts)
    assert "error" not in found
    assert lowest_cosine(small, texts, found["vectors"]) > 0.999


def test_the_server_gives_nothing_else(address: str) -> None:
    """Paths out of its folders are not found."""
    import http.client

    host = address.removeprefix("http://")
    for path in ("/../pyproject.toml", "/bundle/../../../pyproject.toml", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd"):
        connection = http.client.HTTPConnection(host)
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 404, path
        connection.close()
