"""Bundles in mteb: its own check of models, what it stores, prompts, what is refused."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from builders.docpages import run_page

from edge_embed import Reranker
from edge_embed.errors import InputError

mteb = pytest.importorskip("mteb")

from edge_embed.integrations.mteb import EdgeCrossEncoder, EdgeEncoder

pytestmark = [
    pytest.mark.frameworks,
    # mock tasks have a handful of texts, and mteb's evaluators copy tensors
    pytest.mark.filterwarnings("ignore::UserWarning:mteb"),
    pytest.mark.filterwarnings("ignore::UserWarning:sklearn"),
    pytest.mark.filterwarnings("ignore::FutureWarning:sklearn"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:datasets"),
]
TYPES = {
    "BitextMining", "Classification", "Clustering", "InstructionReranking", "InstructionRetrieval",
    "MultilabelClassification", "PairClassification", "Regression", "Reranking", "Retrieval", "STS", "Summarization",
    "ZeroShotClassification",
}  # fmt: skip
GRID = mteb.mocks.ALL_MOCK_TASK_TEST_GRID
TASK = SimpleNamespace(name="SciFact", type="Retrieval")


@pytest.fixture(scope="module")
def encoder() -> EdgeEncoder:
    return EdgeEncoder(threads=1)


def ran(model: Any) -> dict[str, Any]:
    """Results of mteb's mock tasks that the model can be given; a task that failed fails the test."""
    found = mteb.mock_run(model)
    assert found.all_passed, found.to_markdown()
    return {name: result for name, result in found.items() if result is not None}


def encoded(encoder: EdgeEncoder, texts: list[str], prompt_type: str | None = None, **options: Any) -> Any:
    return encoder.encode(
        [{"text": texts}], task_metadata=TASK, hf_split="test", hf_subset="default", prompt_type=prompt_type, **options
    )


def test_all_mock_tasks_of_texts_pass(encoder: EdgeEncoder) -> None:
    """Every type of task that mteb has for texts runs, and the scores are numbers."""
    found = ran(encoder)
    tasks = {task.metadata.name: task.metadata for task in GRID}
    of_texts = {name for name, task in tasks.items() if task.modalities == ["text"]}
    assert set(found) == of_texts
    assert {str(tasks[name].type) for name in found} == TYPES
    for name, result in found.items():
        scores = [row["main_score"] for rows in result.scores.values() for row in rows]
        assert scores, name
        assert np.isfinite(scores).all(), name


def test_encoder_is_what_mteb_calls_one(encoder: EdgeEncoder) -> None:
    assert isinstance(encoder, mteb.EncoderProtocol)


def test_metadata_says_which_bundle_it_is(encoder: EdgeEncoder) -> None:
    meta = encoder.mteb_model_meta
    assert (meta.name, meta.revision) == ("edge-embed/all-minilm-l6-v2", encoder.model.fingerprint)
    assert (meta.embed_dim, meta.max_tokens, meta.license) == (384, 256, "apache-2.0")
    assert meta.adapted_from == "sentence-transformers/all-MiniLM-L6-v2"
    assert meta.memory_usage_mb == pytest.approx(22.3, abs=0.5)
    assert meta.experiment_kwargs is None


def test_mteb_loads_the_model_from_its_metadata() -> None:
    """ModelMeta.load_model gives the same vectors, also with options that change them."""
    short = EdgeEncoder("static", truncate_dim=64, threads=1)
    assert short.mteb_model_meta.experiment_kwargs == {"truncate_dim": 64}
    again = short.mteb_model_meta.load_model()
    assert isinstance(again, EdgeEncoder)
    assert encoded(again, ["one text"]).shape == (1, 64)
    np.testing.assert_array_equal(encoded(again, ["one text"]), encoded(short, ["one text"]))


def test_results_are_in_the_format_of_mteb(tmp_path: Path, encoder: EdgeEncoder) -> None:
    """What evaluate stores is read again by ResultCache, under the bundle's name and fingerprint."""
    task = next(t for t in GRID if t.metadata.name == "MockSTSTask")
    cache = mteb.ResultCache(tmp_path)
    stored = mteb.evaluate(encoder, task, cache=cache, show_progress_bar=False).task_results[0]
    folder = tmp_path / "results" / "edge-embed__all-minilm-l6-v2" / encoder.model.fingerprint
    meta = json.loads((folder / "model_meta.json").read_text("utf-8"))
    assert (meta["name"], meta["revision"]) == ("edge-embed/all-minilm-l6-v2", encoder.model.fingerprint)
    read = mteb.TaskResult.from_disk(folder / "MockSTSTask.json")
    assert read.get_score() == pytest.approx(stored.get_score())
    assert read.task_name == "MockSTSTask"
    (loaded,) = cache.load_results(validate_and_filter=False).model_results
    assert (loaded.model_name, loaded.model_revision) == (meta["name"], meta["revision"])
    assert [result.task_name for result in loaded.task_results] == ["MockSTSTask"]


def test_results_do_not_say_where_the_bundle_lies(tmp_path: Path, bundle: Path) -> None:
    """A folder of one's own is named by the bundle alone in what may be published."""
    folder = shutil.copytree(bundle, tmp_path / "private" / "mine")
    model = EdgeEncoder(folder, threads=1)
    task = next(t for t in GRID if t.metadata.name == "MockSTSTask")
    mteb.evaluate(model, task, cache=mteb.ResultCache(tmp_path / "out"), show_progress_bar=False)
    stored = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(stored) >= 2
    assert not [path for path in stored if b"private" in path.read_bytes()]
    assert model.mteb_model_meta.load_model().model.path == folder


def test_vectors_are_those_of_the_embedder(encoder: EdgeEncoder) -> None:
    texts = ["a query", "", "x" * 3000]
    found = encoded(encoder, texts)
    assert (found.dtype, found.shape) == (np.float32, (3, 384))
    np.testing.assert_array_equal(found, encoder.model.encode(texts))
    assert encoded(encoder, []).shape == (0, 384)


def test_prompts_by_the_narrowest_key() -> None:
    """A task's name with the role, its name, its type, then the role alone."""
    prompts = {"query": "q: ", "Retrieval": "r: ", "SciFact-query": "s: "}
    encoder = EdgeEncoder("static", prompts=prompts, threads=1)
    plain = encoder.model.encode

    def equal(given: str | None, expected: str, name: str = "SciFact", kind: str = "Retrieval") -> None:
        found = encoder.encode(
            [{"text": ["text"]}],
            task_metadata=SimpleNamespace(name=name, type=kind),
            hf_split="test",
            hf_subset="default",
            prompt_type=given,
        )
        np.testing.assert_array_equal(found, plain([expected]))

    equal("query", "s: text")
    equal("document", "r: text")
    equal("query", "r: text", name="NFCorpus")
    equal("query", "q: text", name="STSBenchmark", kind="STS")
    equal("document", "text", name="STSBenchmark", kind="STS")
    equal(None, "text", name="STSBenchmark", kind="STS")
    assert encoder.mteb_model_meta.use_instructions
    assert encoder.mteb_model_meta.experiment_kwargs == {"prompts": prompts}


def test_unknown_is_refused_by_name(encoder: EdgeEncoder) -> None:
    with pytest.raises(InputError, match="'cuda'"):
        EdgeEncoder(device="cuda")
    with pytest.raises(InputError, match="is revision"):
        EdgeEncoder("static", "0" * 32)
    with pytest.warns(UserWarning, match="NoSuchTask"), pytest.raises(InputError, match="NoSuchTask"):
        EdgeEncoder("static", prompts={"NoSuchTask": "x"})
    with pytest.raises(TypeError, match="no_such_option"):
        EdgeEncoder("static", no_such_option=1)
    with pytest.raises(InputError, match="precision 'int8'"):
        encoded(encoder, ["x"], precision="int8")
    with pytest.raises(TypeError, match="normalise"):
        encoded(encoder, ["x"], normalise=True)
    with pytest.raises(InputError, match="SciFact has image"):
        encoder.encode([{"image": [0], "text": ["x"]}], task_metadata=TASK, hf_split="test", hf_subset="default")


def test_cross_encoder_reranks_the_mock_tasks(reranker: Reranker) -> None:
    """A bundle that scores pairs runs in the tasks that give candidates; mteb gives cross-encoders no others."""
    model = EdgeCrossEncoder(reranker.path, threads=1)
    assert isinstance(model, mteb.CrossEncoderProtocol)
    tasks = [task for task in GRID if task.metadata.type in ("Reranking", "InstructionReranking")]
    tasks = [task for task in tasks if task.metadata.modalities == ["text"]]
    found = mteb.evaluate(model, tasks, cache=None, show_progress_bar=False)
    assert {result.task_name for result in found.task_results} == {task.metadata.name for task in tasks}
    assert len(tasks) >= 4
    assert model.mteb_model_meta.is_cross_encoder
    with pytest.raises(InputError, match="load it with Reranker"):
        EdgeEncoder(reranker.path)
    again = model.mteb_model_meta.load_model()
    assert again.mteb_model_meta.revision == model.model.fingerprint


def test_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of docs/evaluation.md, with a mock task in place of one from the hub."""
    mock = next(t for t in GRID if t.metadata.name == "MockRetrievalTask")
    monkeypatch.setattr(mteb, "get_tasks", lambda tasks: [mock] if tasks == ["SciFact"] else [])
    assert run_page("evaluation.md", tmp_path, monkeypatch) >= 3
