"""`--verify`: bundles beside the reference, which runs in a process of its own; here without torch, by a stand-in."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.bert import Checkpoints
from click.testing import CliRunner

from edge_embed import Embedder
from edge_embed.cli.main import main
from edge_embed.errors import ExportError, FidelityError, InputError
from edge_embed_export import export_model
from edge_embed_export.files import child
from edge_embed_export.options import ExportOptions
from edge_embed_export.verify import compare as verifying
from edge_embed_export.verify import texts as verifytexts
from edge_embed_export.verify.compare import UNVERIFIED
from edge_embed_runtime.bundle.manifest import MANIFEST, read_manifest
from edge_embed_runtime.vectors.kinds import KINDS

pytestmark = pytest.mark.usefixtures("short_receipt")

# A reference: it answers each text with a vector that DIFFERENT makes, given the vectors of a bundle.
PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
from edge_embed import Embedder
request = json.loads(Path(sys.argv[1]).read_text())
answer, embedder = Path(sys.argv[2]), Embedder({bundle!r}, threads=1)
rows = [embedder.encode([text], role=role)[0] * 7 for role, text in request["texts"]]
{change}
facts = {{"against": "a reference 1.0", "missing": {missing!r}}}
with answer.with_suffix(".npz").open("wb") as file:
    np.savez(file, **{{str(i): row for i, row in enumerate(rows)}})
answer.with_suffix(".json").write_text(json.dumps(facts))
"""


@pytest.fixture
def reference(
    checkpoint: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_reference: None
) -> Callable[..., Path]:
    """reference(change="rows[3] += 1"): the folder of a model, and a reference that knows it but for that."""
    monkeypatch.setattr(verifying, "installed", lambda: True)

    def make(change: str = "", missing: tuple[str, ...] = (), program: str = PROGRAM) -> Path:
        source = checkpoint()
        known = tmp_path / "known"
        export_model(source, known, precision="fp32", verify="skip")
        path = tmp_path / "program.py"
        path.write_text(program.format(bundle=str(known), change=change, missing=missing))
        monkeypatch.setattr(verifying, "PROGRAM", path)
        return source

    return make


Reference = Callable[..., Path]


def test_what_was_compared_is_said(reference: Reference, tmp_path: Path) -> None:
    """How many texts, with what, and how far apart: in the manifest and in `info`, not in the fingerprint."""
    source = reference()
    made = export_model(source, tmp_path / "b", precision="fp32")
    verified = made.provenance["verified"]
    assert (verified["against"], verified["texts"], verified["tokens"]) == ("a reference 1.0", 64, 24)
    assert verified["largest_difference"] < 1e-6
    assert "left_out" not in verified
    assert made.fingerprint == Embedder(tmp_path / "known").fingerprint
    shown = CliRunner().invoke(main, ["info", str(tmp_path / "b")]).output
    assert "verified: against a reference 1.0, texts 64" in shown


def test_other_vectors_are_refused(reference: Reference, tmp_path: Path) -> None:
    """More than 1e-3 apart: no bundle, in int8 neither, and the worst text is named."""
    source = reference("rows[2] = rows[2] + np.eye(32)[0] * 0.1")
    with pytest.raises(FidelityError, match=r"other vectors than a reference 1\.0.*'Where is the bank\?\\n'.*skip"):
        export_model(source, tmp_path / "b")
    assert not (tmp_path / "b").exists()
    made = export_model(source, tmp_path / "b", verify="skip")
    assert made.provenance["verified"] == f"{UNVERIFIED}: --verify skip"


def test_a_small_difference_is_no_other_vector(reference: Reference, tmp_path: Path) -> None:
    """What rounding makes is accepted, and told."""
    source = reference("rows[2] = rows[2] / 7 + np.eye(32)[0] * 5e-4")
    made = export_model(source, tmp_path / "b", precision="fp32", verify="require")
    assert 1e-4 < made.provenance["verified"]["largest_difference"] < 1e-3


def test_texts_without_numbers_are_left_out(reference: Reference, tmp_path: Path) -> None:
    """Where the reference itself has NaN, or nothing to normalise."""
    source = reference("rows[0] = rows[0] * np.nan; rows[5] = rows[5] * 0")
    made = export_model(source, tmp_path / "b", precision="fp32")
    assert (made.provenance["verified"]["texts"], made.provenance["verified"]["left_out"]) == (62, 2)
    assert made.provenance["verified"]["largest_difference"] < 1e-6


def test_numbers_of_another_count(reference: Reference, tmp_path: Path) -> None:
    """Vectors of other lengths are other vectors."""
    with pytest.raises(FidelityError, match="differ by inf"):
        export_model(reference("rows[1] = rows[1][:8]"), tmp_path / "b", precision="fp32")


def test_a_reference_that_makes_weights_up_says_nothing(reference: Reference, tmp_path: Path) -> None:
    """Weights that the library lacks, and fills with chance, are no proof against a bundle."""
    source = reference("rows = [-row for row in rows]", missing=("layer.0.odd",))
    made = export_model(source, tmp_path / "b", precision="fp32")
    assert made.provenance["verified"].startswith(f"{UNVERIFIED}: the reference lacks weights for layer.0.odd")
    with pytest.raises(ExportError, match=r"cannot be verified.*layer\.0\.odd"):
        export_model(source, tmp_path / "c", precision="fp32", verify="require")


def test_code_in_the_folder_says_nothing(reference: Reference, tmp_path: Path) -> None:
    """Such a folder's own code may do otherwise than the library's class, and is never run."""
    source = reference("rows = [-row for row in rows]")
    config = json.loads((source / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "a.B", "AutoModel": "modeling.Odd"}
    (source / "config.json").write_text(json.dumps(config))
    made = export_model(source, tmp_path / "b", precision="fp32", ignore=["auto_map"])
    assert "code of its own (modeling.Odd), which is never run" in made.provenance["verified"]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import sys; sys.exit('no such thing')", "the reference ended with status 1: no such thing"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "the reference ended with status -9"),
        (
            "import sys; open(sys.argv[2] + '.npz', 'w').write('PK'); open(sys.argv[2] + '.json', 'w').write('1')",
            "the reference ended with status 0",
        ),
        ("while True: pass", "the reference took more than 0.5 seconds"),
    ],
)
def test_a_reference_that_fails(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    """Whatever happens to it is said, and ends no export but one that requires it."""
    source = reference(program=program)
    if "while" in program:
        monkeypatch.setattr(child, "TIMEOUT", 0.5)
    made = export_model(source, tmp_path / "b", precision="fp32")
    assert made.provenance["verified"].startswith(f"{UNVERIFIED}: {message}")
    with pytest.raises(ExportError, match=f"cannot be verified against the reference: {message}"):
        export_model(source, tmp_path / "c", precision="fp32", verify="require")
    assert not (tmp_path / "c").exists()


def test_without_a_reference(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """The default says so in the bundle; `require` names what to install, before anything is read."""
    made = export_model(checkpoint(), tmp_path / "b", precision="fp32")
    assert made.provenance["verified"] == f"{UNVERIFIED}: sentence-transformers and transformers are not installed"
    result = CliRunner().invoke(main, ["export", "nowhere", str(tmp_path / "c"), "--verify", "require"])
    assert result.exit_code == 1
    assert "pip install 'edge-embed[verify]'" in result.output
    with pytest.raises(InputError, match="verify is 'maybe'"):
        export_model(tmp_path / "checkpoint", tmp_path / "c", verify="maybe")


def test_info_of_older_bundles(bundle: Path, tmp_path: Path) -> None:
    """A bundle whose manifest says nothing was not verified."""
    older = shutil.copytree(bundle, tmp_path / "older")
    manifest = read_manifest(older / MANIFEST)
    told = {name: value for name, value in manifest.provenance.items() if name != "verified"}
    (older / MANIFEST).write_bytes(replace(manifest, provenance=told).to_json())
    assert f"provenance    verified: {UNVERIFIED}" in CliRunner().invoke(main, ["info", str(older)]).output


def test_no_room_for_the_reference(reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model too large to be there twice is not compared, rather than the machine brought to its knees."""
    source = reference()
    monkeypatch.setattr(verifying, "_room", lambda: 2**29)
    made = export_model(source, tmp_path / "b", precision="fp32")
    assert "it would take about 1 GiB of memory, and there are 0" in made.provenance["verified"]


def test_word_vectors_have_no_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No library reads a file of word vectors as a model."""
    path = tmp_path / "words.txt"
    path.write_text("".join(f"{word} {i} 1.5 {-i}\n" for i, word in enumerate(("cat", "dog", "river", "bank"))))
    monkeypatch.setattr(verifying, "installed", lambda: True)
    made = export_model(path, tmp_path / "b", floor=-1)
    assert "the source is a file" in made.provenance["verified"]
    with pytest.raises(ExportError, match="cannot be verified"):
        export_model(path, tmp_path / "c", floor=-1, verify="require")


def test_the_program_stands_alone() -> None:
    """It imports nothing of ours and nothing of torch before it is told to, so a bare python can read it."""
    import subprocess

    program = f"import runpy, sys; runpy.run_path({str(verifying.PROGRAM)!r}); print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "'numpy'" in loaded
    assert "edge_embed" not in loaded
    assert "torch" not in loaded


def test_the_texts(embedder: Embedder) -> None:
    """64, of the lengths at which things went wrong, in every role; the same at each call."""
    asked = verifytexts.asked_texts(embedder.tokenizer, (None, "query", "document"), embedder.max_tokens)
    assert len(asked) == 64
    assert asked == verifytexts.asked_texts(embedder.tokenizer, (None, "query", "document"), embedder.max_tokens)
    around = sum(map(len, embedder.tokenizer.around))
    lengths = {len(embedder.tokenizer.word(one.text)) + around for one in asked if one.role is None}
    assert {2, 3, 4, embedder.max_tokens - 1, embedder.max_tokens, embedder.max_tokens + 1} <= lengths
    assert max(lengths) > 2 * embedder.max_tokens
    assert {one.role for one in asked} == {None, "query", "document"}
    assert {"", "Where is the bank?\n"} <= {one.text for one in asked if one.role == "query"}


def test_differences() -> None:
    """Dense vectors by direction, weights of tokens as they are."""
    ours = np.array([0.6, 0.8], np.float32)

    def difference(row: Any, kind: str) -> float | None:
        return verifying._difference(ours, np.array(row, np.float32), KINDS[kind])

    assert difference([3, 4], "dense") == pytest.approx(0, abs=1e-6)
    assert difference([3, 4], "sparse") == pytest.approx(3.2)
    assert difference([np.nan, 4], "dense") is None
    assert difference([[3, 4]], "multi") == float("inf")


needs_reference = pytest.mark.skipif(
    not (find_spec("torch") and find_spec("sentence_transformers")),
    reason="needs torch and sentence-transformers (extra parity)",
)


@pytest.mark.parity
@needs_reference
@pytest.mark.parametrize("pooling", ["mean_tokens", "cls_token"])
def test_with_the_reference(checkpoint: Checkpoints, tmp_path: Path, with_reference: None, pooling: str) -> None:
    """sentence-transformers itself gives the same vectors, and torch never enters this process by that."""
    source = checkpoint(pooling=pooling, dense="torch.nn.modules.activation.Tanh")
    made = export_model(source, tmp_path / "b", precision="fp32", verify="require", prompts={"query": "the cat: "})
    verified = made.provenance["verified"]
    assert verified["against"] == ", ".join(
        f"{name} {version(name).partition('+')[0]}" for name in ("sentence-transformers", "transformers", "torch")
    )
    assert verified["texts"] == 64
    assert verified["largest_difference"] < 1e-5


@pytest.mark.parity
@needs_reference
def test_a_wrong_limit_is_found(checkpoint: Checkpoints, tmp_path: Path, with_reference: None) -> None:
    """The reference reads the folder by itself: what is told to the exporter alone is no excuse for it."""
    source = checkpoint()
    export_model(source, tmp_path / "b", precision="fp32", max_tokens=12, verify="require")
    settings = source / "sentence_bert_config.json"
    embedder = Embedder(tmp_path / "b")
    settings.write_text(json.dumps({"max_seq_length": 10}))
    with pytest.raises(FidelityError, match="other vectors than sentence-transformers"):
        verifying.Verifier(source, ExportOptions())(embedder)


@pytest.mark.parity
@needs_reference
@pytest.mark.parametrize("alone", [False, True])
def test_a_folder_of_transformers(
    checkpoint: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_reference: None, alone: bool
) -> None:
    """Without modules.json, and by transformers alone where sentence-transformers is not there."""
    source = checkpoint()
    if alone:
        monkeypatch.setattr(verifying, "is_installed", lambda name: name != "sentence_transformers")
    else:
        for name in ("modules.json", "sentence_bert_config.json"):
            (source / name).unlink()
    verified = export_model(source, tmp_path / "b", precision="fp32", verify="require").provenance["verified"]
    assert ("sentence-transformers" in verified["against"]) is not alone
    assert verified["largest_difference"] < 1e-5
