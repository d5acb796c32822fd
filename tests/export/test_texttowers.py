"""Text towers of picture models: CLIP, SigLIP, BLIP-2, OpenCLIP's layouts, against the same computed by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import architectures, handtowers, texttowers, towers
from builders.bert import WORDS
from builders.checkpoints import read_checkpoint
from builders.pictures import photo
from builders.texttowers import DIM, HEADS, HIDDEN, LAYERS
from builders.towers import write_tower
from safetensors.numpy import save_file

from edge_embed import Embedder
from edge_embed_export import export_model
from edge_embed_export.families.declined import DECLINED
from edge_embed_export.families.known import read_family
from edge_embed_export.files.accounting import Accounted, Keys
from edge_embed_export.files.tensors import read_tensors
from edge_embed_export.pruning.prune import prune_bundle
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.spec import Spec
from edge_embed_runtime.bundle.join import join_bundles
from edge_embed_runtime.errors import ExportError, InputError, UnsupportedModelError

pytestmark = pytest.mark.usefixtures("short_receipt")

TEXTS = [
    "the river bank",
    "",
    "The  Money in the BANK, at night!",
    "money " * 40,
    "a cat",
    "red and blue and 7 dogs <|endoftext|> in a garden",
]
Array = np.ndarray[Any, Any]


def float_model(folder: Path) -> Embedder:
    export_model(folder, folder.parent / "fp32", precision="fp32", verify="skip")
    return Embedder(folder.parent / "fp32", threads=1)


def same_alone(embedder: Embedder) -> bool:
    """Whether texts get the same bits alone, and beside any others."""
    together = embedder.encode(TEXTS)
    return all(np.array_equal(embedder.encode([text])[0], row) for text, row in zip(TEXTS, together, strict=True))


@pytest.mark.parametrize("changed", [{}, {"eos_token_id": 2}])
def test_clip_gives_what_its_layers_give_by_hand(tmp_path: Path, changed: dict[str, Any]) -> None:
    """Causal layers with QuickGELU, the state at the end token, its projection; old configs name token 2 as the end."""
    source = texttowers.clip_text(tmp_path / "clip", **changed)
    embedder, tensors = float_model(source), read_tensors(source / "model.safetensors")
    assert embedder.manifest.pooling == "last"
    assert (embedder.manifest.dim, embedder.manifest.max_tokens) == (DIM, 20)
    assert not any(embedder.prompts.values())
    for text, row in zip(TEXTS, embedder.encode(TEXTS), strict=True):
        ids = embedder.tokenizer.encode(text)
        expected = handtowers.clip_text(tensors, ids, layers=LAYERS, heads=HEADS)
        assert np.abs(row - expected).max() < 1e-5
    assert same_alone(embedder)


def test_a_text_over_clips_limit_keeps_its_end_token(tmp_path: Path) -> None:
    """A text of 40 words is cut to 20 tokens, the last of which is the end token; one typed by a user is none."""
    embedder = float_model(texttowers.clip_text(tmp_path / "clip"))
    vocabulary = embedder.tokenizer.vocabulary()
    ids = embedder.tokenizer.encode("money " * 40)
    assert len(ids) == 20
    assert ids[-1] == vocabulary["<|endoftext|>"]
    assert (embedder.tokenizer.encode("cat <|endoftext|> dog") == vocabulary["<|endoftext|>"]).sum() == 1


def test_clips_tokenizer_is_made_of_its_vocabulary(tmp_path: Path) -> None:
    """Folders of old releases, as those under sentence-transformers' clip-ViT-B-32, have no tokenizer.json."""
    source = texttowers.clip_text(tmp_path / "clip")
    expected = float_model(source).tokenizer
    texttowers.as_vocabulary(source)
    export_model(source, tmp_path / "again", precision="fp32", verify="skip")
    found = Embedder(tmp_path / "again", threads=1).tokenizer
    for text in TEXTS:
        assert np.array_equal(found.encode(text), expected.encode(text))
    (source / "merges.txt").write_text("#version: 0.2\na b c\n")
    with pytest.raises(ExportError, match="'a b c' is not two parts"):
        export_model(source, tmp_path / "wrong", precision="fp32", verify="skip")


def test_clip_in_int8_keeps_its_vectors(tmp_path: Path) -> None:
    source = texttowers.clip_text(tmp_path / "clip")
    exact = float_model(source)
    export_model(source, tmp_path / "int8", verify="skip")
    quantized = Embedder(tmp_path / "int8", threads=1)
    assert (exact.encode(TEXTS) * quantized.encode(TEXTS)).sum(axis=1).min() > 0.99
    assert same_alone(quantized)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"eos_token_id": 5}, "the first token 5"),
        ({"hidden_act": "sine"}, "the activation 'sine' is not supported"),
        ({"projection_dim": 7}, "projection_dim is 7"),
        ({"num_hidden_layers": 3}, "encoder.layers.2"),
        ({"use_wings": True}, "the key 'use_wings'"),
    ],
)
def test_what_would_be_another_clip_is_refused(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ExportError, match=said):
        float_model(texttowers.clip_text(tmp_path / "clip", **changed))


def test_an_end_token_that_is_not_the_largest_is_refused_where_the_largest_is_pooled(tmp_path: Path) -> None:
    """Old configs (eos_token_id 2) pool at the largest id of a text, which an added token could be."""
    source = texttowers.clip_text(tmp_path / "clip", eos_token_id=2)
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append(texttowers.added("<style>", len(tokenizer["model"]["vocab"])) | {"special": False})
    (source / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ExportError, match="'<style>' and not the end token"):
        float_model(source)


def test_a_text_tower_without_projection_is_refused(tmp_path: Path) -> None:
    source = texttowers.clip_text(tmp_path / "clip")
    tensors = read_tensors(source / "model.safetensors")
    del tensors["text_projection.weight"]
    texttowers.write(tmp_path / "bare", json.loads((source / "config.json").read_text()), tensors, {})
    (tmp_path / "bare" / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    with pytest.raises(ExportError, match=r"no tensor 'text_projection\.weight'"):
        float_model(tmp_path / "bare")


def both(folder: Path, **text: Any) -> Checkpoint:
    """The checkpoint of a folder of both towers, without the image tower. text: keys beside text_config"""
    tokenizer = texttowers.clip_tokenizer()
    vocab = len(tokenizer["model"]["vocab"])
    tensors = texttowers.Tensors()
    texttowers.add_clip_text(tensors, vocab)
    config = {"model_type": "clip", "projection_dim": DIM, **text}
    return Checkpoint(folder, Keys(config), Accounted(tensors), tokenizer, None, None, (), {}, "", None)


def test_text_config_dict_counts_as_in_the_library(tmp_path: Path) -> None:
    """Where it is there, what it lacks is the library's own value, whatever text_config says."""
    vocab = len(texttowers.clip_tokenizer()["model"]["vocab"])
    plain = texttowers.clip_text_config(vocab, hidden_act="gelu")
    assert read_family(both(tmp_path, text_config=plain))[0].activation == "gelu"
    older = {key: value for key, value in plain.items() if key != "hidden_act"}
    assert read_family(both(tmp_path, text_config=plain, text_config_dict=older))[0].activation == "quick_gelu"
    with pytest.raises(ExportError, match=r"num_hidden_layers|encoder\.layers"):
        read_family(
            both(tmp_path, text_config=plain, text_config_dict={"hidden_size": HIDDEN, "eos_token_id": vocab - 1})
        )


def test_siglip_gives_what_its_layers_give_by_hand(tmp_path: Path) -> None:
    """Texts are filled up to 12 tokens, which all count; the vector is made at the last of them."""
    source = texttowers.siglip_text(tmp_path / "siglip")
    embedder, tensors = float_model(source), read_tensors(source / "model.safetensors")
    assert embedder.manifest.architecture["batches"] == "single"
    assert embedder.manifest.schema == 1  # older releases run it
    for text, row in zip(TEXTS, embedder.encode(TEXTS), strict=True):
        ids = embedder.tokenizer.encode(text)
        expected = handtowers.siglip_text(tensors, ids, layers=LAYERS, heads=HEADS, filler=1)
        assert np.abs(row - expected).max() < 1e-5
    assert same_alone(embedder)


def test_siglips_tokenizer_lowers_and_takes_punctuation_out(tmp_path: Path) -> None:
    embedder = float_model(texttowers.siglip_text(tmp_path / "siglip"))
    plain = embedder.tokenizer.encode("the red cat at night")
    assert np.array_equal(embedder.tokenizer.encode("The (RED)\n cat,\tat   night!!"), plain)
    pieces = [texttowers.PIECES[i] for i in plain]
    assert pieces == ["▁the", "▁red", "▁cat", "▁at", "▁night", "</s>"]
    assert embedder.tokenizer.encode("").tolist() == embedder.tokenizer.encode(" !? ").tolist() == [1]
    assert embedder.tokenizer.encode("x"[:0] + "œ").tolist() == [texttowers.PIECES.index("▁"), 2, 1]


def test_siglip_in_int8_keeps_its_vectors(tmp_path: Path) -> None:
    source = texttowers.siglip_text(tmp_path / "siglip")
    exact = float_model(source)
    export_model(source, tmp_path / "int8", verify="skip", table="int4")
    quantized = Embedder(tmp_path / "int8", threads=1)
    assert (exact.encode(TEXTS) * quantized.encode(TEXTS)).sum(axis=1).min() > 0.99
    assert same_alone(quantized)


def test_a_pruned_siglip_still_fills_up_with_its_padding_token(tmp_path: Path) -> None:
    """The id that texts are filled up with stays what it is, so texts of kept tokens keep their bits."""
    export_model(texttowers.siglip_text(tmp_path / "siglip"), tmp_path / "whole", verify="skip", table="int4")
    texts = ["the red cat at night", "a river"]
    manifest = prune_bundle(tmp_path / "whole", tmp_path / "pruned", texts=texts, floor=0.0)
    whole, pruned = (Embedder(tmp_path / name, threads=1) for name in ("whole", "pruned"))
    assert manifest.architecture["vocab"] < len(texttowers.PIECES)
    assert np.array_equal(whole.encode(texts), pruned.encode(texts))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"padding_side": "left"}, "filled up in front"),
        ({"model_max_length": 40}, "model_max_length is 40"),
        ({"eos_token": "<end>"}, "lacks the token '<end>'"),
    ],
)
def test_what_would_be_another_siglip_is_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ExportError, match=said):
        float_model(texttowers.siglip_text(tmp_path / "siglip", **settings))


@pytest.mark.parametrize("settings", [{}, {"backend": "tokenizers"}])
def test_siglip_2_lowers_texts_where_its_class_does(tmp_path: Path, settings: dict[str, Any]) -> None:
    """tokenizer.json lowers nothing here: the class says it, which transformers 5 alone has; Gemma's says nothing."""
    lowered = float_model(texttowers.siglip2_text(tmp_path / "siglip2" / "model", **settings))
    kept = float_model(texttowers.siglip2_text(tmp_path / "gemma" / "model", "GemmaTokenizer", **settings))
    small, large = "the cat", "The CAT"
    assert "keep their capitals" in kept.manifest.provenance["notes"]
    assert "keep their capitals" not in lowered.manifest.provenance.get("notes", "")
    assert lowered.tokenizer.encode(large).tolist() == lowered.tokenizer.encode(small).tolist()
    assert kept.tokenizer.encode(small).tolist() == lowered.tokenizer.encode(small).tolist()
    assert kept.tokenizer.encode(large).tolist() != kept.tokenizer.encode(small).tolist()
    with pytest.raises(ExportError, match="filled up in front"):
        float_model(texttowers.siglip2_text(tmp_path / "left" / "model", padding_side=None, **settings))


@pytest.mark.parametrize("raw", [b"", b"\x0a", b"\xff" * 40, b"\x0a\x7f\x01"])
def test_a_file_that_is_none_of_sentencepiece_is_named(tmp_path: Path, raw: bytes) -> None:
    source = texttowers.siglip_text(tmp_path / "siglip")
    (source / "spiece.model").write_bytes(raw)
    with pytest.raises(ExportError, match=r"spiece\.model"):
        float_model(source)


def test_blip2_reads_texts_with_its_own_half_of_the_qformer(tmp_path: Path) -> None:
    """What looks at pictures changes no text's vector; a BLIP-2 that writes captions is refused."""
    source = texttowers.blip2_text(tmp_path / "blip")
    tensors, vector = read_tensors(source / "model.safetensors"), texttowers.text_vectors(source)
    for ids in (np.array([2, 3]), np.array([2, 7, 9, 11, 3])):
        expected = handtowers.qformer_text(tensors, ids, layers=LAYERS, heads=HEADS)
        assert np.abs(vector(ids) - expected).max() < 1e-5
    with pytest.raises(UnsupportedModelError, match="writes captions"):
        read_family(read_checkpoint(texttowers.blip2_text(tmp_path / "captions", use_qformer_text_input=False)))


def openclip(text_cfg: dict[str, Any], **more: Any) -> Checkpoint:
    tokenizer = texttowers.clip_tokenizer()
    tensors = texttowers.openclip_text(text_cfg, len(tokenizer["model"]["vocab"]))
    config = {"model_type": "open_clip", "model_cfg": {"embed_dim": DIM, "text_cfg": {**text_cfg, **more}}}
    folder = Path("folder")
    return Checkpoint(folder, Keys(config), Accounted(tensors), tokenizer, None, None, (), {}, "", None)


def test_coca_has_a_class_token_behind_every_text() -> None:
    """As OpenCLIP has it: at the last position, and keys behind padding, which is also a token of texts, are hidden."""
    text_cfg = {"context_length": 9, "width": HIDDEN, "heads": HEADS, "layers": LAYERS, "embed_cls": True}
    checkpoint = openclip(text_cfg)
    tensors = dict(checkpoint.tensors)
    vocab, vector = len(checkpoint.tokenizer["model"]["vocab"]), texttowers.text_vectors(checkpoint)
    for middle in ([], [7], [7, 0, 8, 9], [0, 0, 5, 6, 7, 8, 9]):
        ids = np.array([vocab - 2, *middle, vocab - 1])
        expected = handtowers.coca_text(tensors, ids, layers=LAYERS, heads=HEADS)
        assert np.abs(vector(ids) - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"pool_type": "mean"}, "pool_type 'mean'"),
        ({"no_causal_mask": True}, "without a causal mask"),
        ({"qk_norm": True}, "qk_norm"),
        ({"tokenizer_mode": "clips"}, "tokenizer_mode"),
        ({"tokenizer_kwargs": {"strip_sep_token": True}}, "strip_sep_token"),
        ({"hf_model_name": "google/mt5-base"}, "mt5-base"),
        ({"proj_type": "mlp"}, "proj_type 'mlp'"),
        ({"context_length": 12}, "there are 9 positions"),
        ({"fins": 2}, "the key 'model_cfg.text_cfg.fins'"),
    ],
)
def test_what_openclip_has_and_the_graph_has_not_is_refused(more: dict[str, Any], said: str) -> None:
    text_cfg = {"context_length": 9, "width": HIDDEN, "heads": HEADS, "layers": LAYERS}
    assert isinstance(read_family(openclip(text_cfg))[0], Spec)
    with pytest.raises(ExportError, match=said):
        read_family(openclip(text_cfg, **more))


PICTURES = [photo(40 + 7 * i, 60 - 5 * i, i) for i in range(3)]


BOTH = pytest.mark.parametrize("make", [texttowers.siglip_folder, texttowers.coca_folder])


@pytest.mark.parametrize(
    ("make", "kind", "prefix"),
    [
        (texttowers.chinese_clip_folder, "bert", "text_model."),
        (texttowers.altclip_folder, "xlm-roberta", "text_model.roberta."),
    ],
)
def test_a_bert_beside_clips_pictures_is_a_bert_with_more_layers(
    tmp_path: Path, make: Any, kind: str, prefix: str
) -> None:
    """Chinese-CLIP and AltCLIP: the state of the first token of the model itself, through their layers, by hand."""
    source = make(tmp_path / "source")
    embedder, tensors = float_model(source), read_tensors(source / "model.safetensors")
    own = {name.removeprefix(prefix): w for name, w in tensors.items() if name.startswith(prefix)}
    config = json.loads((source / "config.json").read_text())["text_config"] | {"model_type": kind}
    config.pop("project_dim", None)
    plain = Checkpoint(source, Keys(config), Accounted(own), {}, None, "cls", (), {}, "", None)
    states = texttowers.states_of(plain)
    for text in TEXTS[:3]:
        ids = embedder.tokenizer.encode(text)
        state = states(ids)[0].astype(float)
        if kind != "bert":
            state = handtowers.norm(tensors, "text_model.pre_LN", state, 1e-5)
            state = handtowers.linear(tensors, "text_model.transformation", state)
        expected = handtowers.unit(handtowers.linear(tensors, "text_projection", state))
        assert np.abs(embedder.encode([text])[0] - expected).max() < 1e-5
    assert embedder.encode_image(PICTURES).shape == (len(PICTURES), embedder.dim)
    assert same_alone(embedder)


@BOTH
def test_folders_of_both_towers_become_one_bundle(tmp_path: Path, make: Any) -> None:
    embedder = float_model(make(tmp_path / "source"))
    assert embedder.modalities == ("text", "image")
    texts, pictures = embedder.encode(TEXTS), embedder.encode_image(PICTURES)
    assert texts.shape[1] == pictures.shape[1] == embedder.dim
    assert same_alone(embedder)


@pytest.mark.slow
@BOTH
def test_both_towers_in_int8_keep_their_vectors(tmp_path: Path, make: Any) -> None:
    source = make(tmp_path / "source")
    exact = float_model(source)
    export_model(source, tmp_path / "int8", verify="skip", floor=0.9)
    quantized = Embedder(tmp_path / "int8", threads=1)
    assert (exact.encode(TEXTS) * quantized.encode(TEXTS)).sum(axis=1).min() > 0.98
    assert (exact.encode_image(PICTURES) * quantized.encode_image(PICTURES)).sum(axis=1).min() > 0.98


def test_blip2_has_one_vector_for_a_text_and_several_for_a_picture(tmp_path: Path) -> None:
    """The same Q-Former reads both; the score is the highest product of the text's vector with one of the picture's."""
    embedder = float_model(texttowers.blip2_folder(tmp_path / "source"))
    texts, pictures = embedder.encode(TEXTS), embedder.encode_image_multi(PICTURES)
    assert texts.shape == (len(TEXTS), DIM)
    assert [picture.shape for picture in pictures] == [(5, DIM)] * len(PICTURES)
    scores = np.array([[(picture @ text).max() for picture in pictures] for text in texts])
    assert np.abs(scores).max() <= 1 + 1e-5
    assert len(np.unique(scores.round(5))) == scores.size


def test_a_multilingual_model_of_captions_joins_an_image_tower(tmp_path: Path) -> None:
    """As clip-ViT-B-32-multilingual-v1: DistilBERT and a Dense layer, trained into the space of a CLIP's pictures."""
    texts = architectures.write(architectures.distilbert(), tmp_path / "texts")
    weights = texttowers.Tensors(3)
    weights.linear("linear", towers.DIM, architectures.HIDDEN, bias=False)
    dense = {"in_features": architectures.HIDDEN, "out_features": towers.DIM, "bias": False}
    dense["activation_function"] = "torch.nn.modules.linear.Identity"
    (texts / "2_Dense").mkdir()
    (texts / "2_Dense" / "config.json").write_text(json.dumps(dense))
    save_file(dict(weights), texts / "2_Dense" / "model.safetensors")
    modules = json.loads((texts / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (texts / "modules.json").write_text(json.dumps(modules))
    export_model(texts, tmp_path / "multilingual", precision="fp32", verify="skip")
    export_model(write_tower(tmp_path / "clip", "clip alone"), tmp_path / "pictures", precision="fp32", verify="skip")
    with pytest.raises(InputError, match="space"):
        join_bundles(tmp_path / "multilingual", [tmp_path / "pictures"], tmp_path / "refused")
    join_bundles(tmp_path / "multilingual", [tmp_path / "pictures"], tmp_path / "both", same_space=True)
    both = Embedder(tmp_path / "both", threads=1)
    assert both.modalities == ("text", "image")
    assert both.encode(["the cat"]).shape == both.encode_image(PICTURES[:1]).shape == (1, towers.DIM)
    assert np.array_equal(both.encode(["the cat"]), Embedder(tmp_path / "multilingual", threads=1).encode(["the cat"]))


@pytest.mark.parametrize("kind", [kind for row in DECLINED for kind in row.types])
def test_what_is_not_converted_is_refused_with_its_reason(tmp_path: Path, kind: str) -> None:
    """Cross-encoders of pictures, decoders that read pictures, films and so on: by name, before anything is read."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(UnsupportedModelError, match=rf"\({kind}\) (reads|is|has) ") as caught:
        export_model(tmp_path, tmp_path / "bundle")
    assert caught.value.architecture == kind
    assert not (tmp_path / "bundle").exists()


def test_the_docs_have_a_row_for_each_that_is_not_converted() -> None:
    page = (Path(__file__).parents[2] / "docs" / "families.md").read_text()
    assert [row.title for row in DECLINED if f"| {row.title}" not in page] == []


def test_words_of_builders_are_tokens() -> None:
    """Each word of the small tokenizers is one token, so that texts above have as many tokens as words."""
    vocabulary = texttowers.clip_tokenizer()["model"]["vocab"]
    assert all(f"{word}</w>" in vocabulary and f"▁{word}" in texttowers.PIECES for word in WORDS)
