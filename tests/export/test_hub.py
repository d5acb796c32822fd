"""Models by name, from a hub on loopback that speaks the real endpoints."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders.bert import bert_folder
from builders.hub import Hub, Repository, running

from edge_embed.errors import InputError, MissingExtraError, SourceError
from edge_embed_export import export_model
from edge_embed_export import hub as by_name
from edge_embed_runtime import extras

constants = pytest.importorskip("huggingface_hub.constants")
NAME = "small/bert"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folder = bert_folder(tmp_path / "model", dense="torch.nn.modules.activation.Tanh")
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    more = ["modeling_bert.py", "pytorch_model.bin", "onnx/model.onnx", "onnx/config.json", "model.fp16.safetensors"]
    files |= dict.fromkeys([*more, "2_Dense/pytorch_model.bin", "flax_model.msgpack"], b"x" * 2000)
    with running(Hub({NAME: Repository(files)})) as found:
        use(found.url, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        yield found


def use(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def download(name: str = NAME, revision: str | None = None, onnx: str | None = None) -> by_name.Downloaded:
    return by_name.download(name, revision, onnx, lambda _: None)


def test_the_command_exports_a_model_by_its_name(hub: Hub, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": "home", "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_own"}
    command = [sys.executable, "-m", "edge_embed", "export", NAME, "out", "--precision", "fp32", "--revision", "v1.0"]
    done = subprocess.run([*command, "--verify", "skip"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    manifest = json.loads(Path("out/manifest.json").read_text())
    origin = manifest["provenance"]
    assert (origin["source"], origin["revision"]) == (NAME, hub.models[NAME].commit)
    assert (origin["licence"], manifest["dim"]) == ("apache-2.0", 16)
    assert "hf_own" in hub.tokens
    assert "hf_own" not in done.stdout + done.stderr + json.dumps(manifest)
    assert Path("home/hub").is_dir()


def test_what_is_needed_is_downloaded_and_nothing_else(hub: Hub) -> None:
    found = download()
    wanted = {path.relative_to("model").as_posix() for path in Path("model").rglob("*") if path.is_file()}
    assert {path.relative_to(found.folder).as_posix() for path in found.folder.rglob("*") if path.is_file()} == wanted
    assert set(hub.asked) == wanted
    assert found.revision == hub.models[NAME].commit
    hub.asked.clear()
    assert download() == found
    assert hub.asked == []


def test_a_bundle_of_a_folder_says_no_revision(hub: Hub) -> None:
    manifest = export_model("model", "out", precision="fp32", verify="skip")
    assert "revision" not in manifest.provenance
    with pytest.raises(InputError, match="is no model on a hub: there is no use for revision"):
        export_model("model", "out2", revision="main")


def test_a_folder_of_that_name_comes_first(hub: Hub) -> None:
    Path("small").mkdir()
    Path("model").rename(NAME)
    assert not by_name.is_name(NAME)
    assert export_model(NAME, "out", precision="fp32", verify="skip").provenance["source"] == "bert"
    assert hub.tokens == set()


@pytest.mark.parametrize("source", ["bert", "./small/bert", "/small/bert", "a/b/c", "small/", "~/bert", "small\\bert"])
def test_what_is_no_name(source: str) -> None:
    assert not by_name.is_name(source)


def test_an_interrupted_download_goes_on_where_it_ended(hub: Hub) -> None:
    hub.models[NAME].files["model.safetensors"] += bytes(22_000_000)
    hub.cut_after = 15_000_000
    found = download()
    assert (found.folder / "model.safetensors").read_bytes() == hub.models[NAME].files["model.safetensors"]
    assert max(hub.starts) > 0, "it was downloaded from the beginning again"


def test_offline_takes_what_was_downloaded(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    found = download()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    said: list[str] = []
    assert by_name.download(NAME, None, None, said.append) == found
    assert "offline mode is on" in said[0]
    assert download(revision=found.revision) == found
    for missing, revision in (("small/other", None), (NAME, "v2")):
        with pytest.raises(SourceError, match="was not downloaded before, and the hub cannot be asked") as caught:
            download(missing, revision)
        assert caught.value.code == "network_unreachable"


def test_a_hub_that_cannot_be_reached(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    use("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(SourceError, match="the hub cannot be asked") as caught:
        download()
    assert caught.value.code == "network_unreachable"


def test_what_is_not_to_be_had(hub: Hub) -> None:
    hub.models["small/gated"] = Repository(hub.models[NAME].files, gated=True)
    hub.models["small/private"] = Repository(hub.models[NAME].files, private_token="hf_other")  # noqa: S106 - none
    cases = {
        ("small/none", None): "neither a file or folder here nor a model on the hub",
        ("small/private", None): "or a private one: set HF_TOKEN",
        (NAME, "v9"): "has no revision 'v9'",
        ("small/gated", None): "is gated: accept its terms",
        ("small/a--b", None): "could not be downloaded: .*--",
    }
    for (name, revision), message in cases.items():
        with pytest.raises(SourceError, match=message):
            download(name, revision)


def test_models_without_safetensors() -> None:
    files = dict.fromkeys(["config.json", "tokenizer.json", "vocab.txt", "tokenizer.model", "modeling.py"], 1)
    with pytest.raises(SourceError, match=r"but pytorch_model.bin: pickles can run code, and are never downloaded"):
        by_name.wanted({**files, "pytorch_model.bin": 9}, NAME)
    with pytest.raises(SourceError, match=r"it holds ONNX files: give --onnx and one of onnx/model.onnx"):
        by_name.wanted({**files, "onnx/model.onnx": 9}, NAME)
    with pytest.raises(SourceError, match=r"no safetensors; its files: config.json"):
        by_name.wanted(files, NAME)
    graph = {"onnx/model.onnx": 9, "onnx/model.onnx_data": 9}
    found = by_name.wanted({**files, **graph, "model.safetensors": 9, "onnx/other.onnx": 9}, NAME, "onnx/model.onnx")
    assert found.keys() == files.keys() - {"modeling.py"} | graph.keys()
    with pytest.raises(SourceError, match=r"holds no file 'model.onnx'; its ONNX files: onnx/model.onnx"):
        by_name.wanted({**files, **graph}, NAME, "model.onnx")


def test_weights_in_parts_and_modules_of_a_router() -> None:
    files = dict.fromkeys(
        [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "consolidated.safetensors",
            "adapter_model.safetensors",
            "query_0_StaticEmbedding/model.safetensors",
            "document_0_Transformer/model.safetensors",
            "original/model.safetensors",
            "../1_Dense/model.safetensors",
        ],
        5,
    )
    unwanted = {"consolidated.safetensors", "original/model.safetensors", "../1_Dense/model.safetensors"}
    assert by_name.wanted(files, NAME).keys() == files.keys() - unwanted


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edge-embed\[hub\]'"):
        export_model(NAME, "out")
    assert not extras.is_installed("huggingface_hub")
