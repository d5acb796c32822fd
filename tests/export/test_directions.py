"""Which way the tokens of a decoder see: said by config.json, by names of classes, or by the caller; never guessed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.architectures import MODELS, SIZE, Model, decoder, write
from builders.checkpoints import read_checkpoint
from builders.reference import Reference, both_sided_mistral
from click.testing import CliRunner

from edge_embed import Embedder
from edge_embed.cli.main import main
from edge_embed.errors import ExportError, InputError, UnsupportedModelError
from edge_embed_export import export_model
from edge_embed_export.families.known import read_family

pytestmark = pytest.mark.usefixtures("short_receipt")

TEXTS = ["the river bank", "money at the bank and in the house", "a cat"]
STELLA = {
    "auto_map": {"AutoModel": "modeling_qwen.Qwen2Model", "AutoModelForCausalLM": "modeling_qwen.Qwen2ForCausalLM"}
}

OWN = {"auto_map": {"AutoModel": "modeling_x.MistralModel"}}


def folder(tmp_path: Path, name: str, kind: str = "mistral", **config: Any) -> Path:
    merged, tensors = decoder(kind, prefix="model.", **{"sliding_window": None, **config})
    return write(Model(merged, tensors), tmp_path / name)


def bidirectional(source: Path) -> bool:
    spec, _ = read_family(read_checkpoint(source))
    assert spec.causal == any(layer.bias for layer in spec.plan)
    return not spec.causal


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("mistral", {"is_causal": False}),
        ("llama_bidirec", {"architectures": ["LlamaBidirectionalModel"]}),
        ("llama", {"auto_map": {"AutoModel": "nvidia/x--llama_bidirectional_model.LlamaBidirectionalModel"}}),
        ("llama", {"auto_map": {"AutoModel": "modeling_llama_encoder.LlamaEncoderModel"}}),
        ("mistral", {"architectures": ["MistralBiForMNTP"]}),
        ("qwen3", {"architectures": ["Qwen3BidirectionalModel"]}),
        (
            "mistral",
            {"auto_map": {"AutoModelForCausalLM": "modeling_gritlm7b.MistralForCausalLM"}, "sliding_window": 4},
        ),
        ("mistral", {**OWN, "use_bidirectional_attention": True}),
    ],
)
def test_both_sides_where_the_folder_says_so(tmp_path: Path, kind: str, config: dict[str, Any]) -> None:
    merged, tensors = decoder(kind, prefix="model.", normed=kind == "qwen3", **{"sliding_window": None, **config})
    assert bidirectional(write(Model(merged, tensors), tmp_path / "source"))


def test_vectors_of_both_sides(tmp_path: Path) -> None:
    """LLM2Vec's Mistral is Mistral without what hides the tokens behind."""
    merged, tensors = decoder("mistral", sliding_window=None, architectures=["MistralBiModel"])
    source = write(Model(merged, tensors), tmp_path / "source")
    export_model(source, tmp_path / "bundle", precision="fp32")
    embedder = Embedder(tmp_path / "bundle", threads=1)
    for text, found in zip(TEXTS, embedder.encode(TEXTS), strict=True):
        t = Reference(Model(merged, tensors), eps=merged["rms_norm_eps"])
        pooled = both_sided_mistral(t, merged, embedder.tokenizer.encode(text).tolist()).mean(0)
        assert np.abs(found - pooled / np.linalg.norm(pooled)).max() < 1e-5


def test_unknown_code_is_refused_until_somebody_says(tmp_path: Path) -> None:
    """stella_en_1.5B's config.json does not say what its code does."""
    merged, tensors = decoder("qwen2", bias=True, head_dim=SIZE, **STELLA)
    source = write(Model(merged, tensors), tmp_path / "source")
    with pytest.raises(UnsupportedModelError, match=r"modeling_qwen\.Qwen2Model.*--attention bidirectional"):
        export_model(source, tmp_path / "bundle")
    asked = {}
    for attention in ("causal", "bidirectional"):
        bundle = tmp_path / attention
        run = CliRunner().invoke(
            main, ["export", str(source), str(bundle), f"--attention={attention}", "--precision=fp32"]
        )
        assert run.exit_code == 0, run.output
        assert f"attention is {attention}, as was asked for" in run.output
        asked[attention] = Embedder(bundle, threads=1).encode(TEXTS)
    plain = write(Model({**merged, "auto_map": None}, tensors), tmp_path / "plain")
    said = write(Model({**merged, "auto_map": None, "is_causal": False}, tensors), tmp_path / "said")
    for attention, other in (("causal", plain), ("bidirectional", said)):
        manifest = export_model(other, tmp_path / f"{other.name}.b", precision="fp32")
        assert np.array_equal(asked[attention], Embedder(tmp_path / f"{other.name}.b", threads=1).encode(TEXTS))
        assert ("as in transformers 5" in manifest.provenance.get("notes", "")) == (attention == "bidirectional")
    assert not np.allclose(asked["causal"], asked["bidirectional"])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention is true, which the library does not read"),
        ({"is_causal": "no"}, "is_causal is 'no', expected true or false"),
        ({**OWN, "use_bidirectional_attention": True, "is_causal": True}, "remove one of them"),
        ({**OWN, "is_causal": False, "sliding_window": 5}, "sliding_window is 5, and whether the model's own code"),
    ],
)
def test_what_contradicts_is_refused(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        bidirectional(folder(tmp_path, "source", **config))


def test_pooling_of_nvidia(tmp_path: Path) -> None:
    """Their config.json names it; a folder of sentence-transformers names its own."""
    for named, pooling in (("avg", "mean"), ("last", "last"), ("cls", "cls")):
        merged, tensors = decoder("llama_bidirec", pooling=named)
        spec, _ = read_family(read_checkpoint(write(Model(merged, tensors, None), tmp_path / named)))
        assert spec.pooling == pooling
    merged, tensors = decoder("llama_bidirec", pooling="weighted_avg")
    with pytest.raises(ExportError, match=r"pooling is 'weighted_avg', expected one of"):
        read_family(read_checkpoint(write(Model(merged, tensors, None), tmp_path / "weighted")))


def test_option_without_effect_is_an_error(tmp_path: Path) -> None:
    """Encoders see both sides; what is no checkpoint has no such choice."""
    for name in ("bert", "eurobert"):
        with pytest.raises(ExportError, match=r"--attention is for decoders"):
            export_model(write(MODELS[name](), tmp_path / name), tmp_path / "bundle", attention="bidirectional")
    with pytest.raises(InputError, match=r"attention is 'both', expected one of"):
        export_model(tmp_path / "bert", tmp_path / "bundle", attention="both")  # type: ignore[arg-type]
    words = tmp_path / "words.txt"
    words.write_text("cat 1 2\ndog 2 1\n")
    with pytest.raises(InputError, match="there is no use for attention"):
        export_model(words, tmp_path / "bundle", attention="causal")
