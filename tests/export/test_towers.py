"""Bundles with towers: from folders with several models, and from ONNX graphs."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from builders.commands import run
from builders.pictures import front, image, photo, saved
from builders.towerbundles import DIM, SIDE, clip_folder, image_bundle, picture_graph, several_graph
from builders.towers import write_tower

from edge_embed import Embedder
from edge_embed.embedder import bundle_path
from edge_embed.errors import ExportError, FidelityError, InputError, SourceError
from edge_embed_export import TowerOptions, export_model
from edge_embed_export.towers import made
from edge_embed_export.towers.golden import golden_files
from edge_embed_export.towers.graph import GraphTower, tower_from_onnx
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.bundle.manifest import Manifest

PICTURES = [photo(50 + 9 * i, 70 - 5 * i, i) for i in range(6)]
LOW = 0.5  # random weights of this size are not what receipts are for


@pytest.fixture(autouse=True)
def _short(short_receipt: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "SPEED_ROUNDS", 1)


def done(*arguments: object) -> str:
    """What a command prints that succeeds."""
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def refused(*arguments: object) -> str:
    """What a command says that does not."""
    result = run(*arguments)
    assert result.exit_code in (1, 2), result.stdout
    return result.stderr


def float_form(source: Path, out: Path, **options: Any) -> Manifest:
    return export_model(source, out, precision="fp32", **options)


class TestFolder:
    """A CLIP with both towers."""

    def test_one_bundle_of_both(self, tmp_path: Path) -> None:
        """Texts and pictures in one space; what is exported apart has the same vectors and the same space."""
        source = clip_folder(tmp_path / "clip")
        whole = float_form(source, tmp_path / "both")
        assert whole.modalities == ("text", "image")
        assert whole.space.startswith("checkpoint:")
        texts = float_form(source, tmp_path / "texts", towers=TowerOptions(only=["text"]))
        pictures = float_form(source, tmp_path / "pictures", towers=TowerOptions(only=("image",)))
        assert (texts.modalities, pictures.modalities) == (("text",), ("image",))
        assert texts.space == pictures.space == whole.space
        both = Embedder(tmp_path / "both")
        assert np.array_equal(both.encode(["the cat"]), Embedder(tmp_path / "texts").encode(["the cat"]))
        assert np.array_equal(both.encode_image(PICTURES), Embedder(tmp_path / "pictures").encode_image(PICTURES))
        tower = whole.towers["image"]
        assert tower.architecture["logit_scale"] == pytest.approx(2.6)
        assert [golden.name for golden in tower.golden] == ["turned.jpg", "clear.png"]
        assert "alpha" in tower.provenance["notes"]

    def test_parts_can_be_joined(self, tmp_path: Path) -> None:
        """The command line, from the export of each part to one bundle; --json says what became of it."""
        source = clip_folder(tmp_path / "clip")
        for part in ("text", "image"):
            done("export", source, tmp_path / part, "--precision", "fp32", "--towers", part)
        shown = json.loads(done("join", tmp_path / "text", tmp_path / "image", tmp_path / "both", "--json"))
        assert sorted(shown["towers"]) == ["image"]
        assert shown["towers"]["image"]["golden"] == ["turned.jpg", "clear.png"]
        said = done("info", tmp_path / "both")
        assert "6 inputs reproduced here" in said
        assert f"space         {shown['space']}" in said
        again = refused("join", tmp_path / "text", tmp_path / "image", tmp_path / "both")
        assert "--force" in again
        done("join", tmp_path / "text", tmp_path / "image", tmp_path / "both", "--force", "--name", "pair")
        assert read_bundle(tmp_path / "both").manifest.name == "pair"

    def test_int8_by_pictures_of_the_users(self, tmp_path: Path) -> None:
        """The receipt is measured on pictures that calibration did not see; a floor that is not reached writes
        nothing."""
        source, folder = clip_folder(tmp_path / "clip"), tmp_path / "pictures"
        folder.mkdir()
        for i in range(15):
            (folder / f"{i:02}.jpg").write_bytes(saved(image(60, 80, i)))
        (folder / "notes.txt").write_text("no picture")
        options = TowerOptions(only=["image"], calibration=folder)
        manifest = export_model(source, tmp_path / "int8", towers=options, floor=LOW)
        receipt = manifest.towers["image"].receipt
        assert receipt["inputs"] == "5 of pictures of the caller's"
        assert receipt["cosine_to_fp32"]["mean"] > 0.9
        assert manifest.towers["image"].quantization["pairs"] == "within 128"
        float_form(source, tmp_path / "float", towers=options)
        ours, theirs = (Embedder(tmp_path / name).encode_image(PICTURES) for name in ("int8", "float"))
        assert (ours * theirs).sum(axis=1).min() > 0.9
        with pytest.raises(FidelityError, match=r"the floor is 1\.01"):
            export_model(source, tmp_path / "never", towers=options, floor=1.01)
        assert not (tmp_path / "never").exists()
        for path in sorted(folder.glob("*.jpg"))[:8]:
            path.unlink()
        with pytest.raises(InputError, match="holds 7 pictures that can be read; 12 at least"):
            export_model(source, tmp_path / "never", towers=options)
        with pytest.raises(SourceError, match="cannot be read"):
            export_model(source, tmp_path / "never", towers=TowerOptions(calibration=tmp_path / "none"))

    def test_pictures_alone(self, tmp_path: Path) -> None:
        """A model without texts, DINOv2, is a bundle without texts."""
        manifest = float_form(write_tower(tmp_path / "dino", "dinov2"), tmp_path / "out")
        assert manifest.modalities == ("image",)
        assert Embedder(tmp_path / "out").encode_image(PICTURES).shape == (len(PICTURES), manifest.dim)
        with pytest.raises(InputError, match="has no model for text: it has those for image"):
            float_form(tmp_path / "dino", tmp_path / "out2", towers=TowerOptions(only=["text"]))

    def test_image_model_needs_no_tokenizer(self, tmp_path: Path) -> None:
        """Of a CLIP whose tokenizer is not there, the image tower can be taken."""
        source = clip_folder(tmp_path / "clip")
        for path in source.glob("tokenizer*"):
            path.unlink()
        manifest = float_form(source, tmp_path / "out", towers=TowerOptions(only=["image"]))
        assert manifest.modalities == ("image",)
        with pytest.raises((ExportError, SourceError), match="tokenizer"):
            float_form(source, tmp_path / "both")

    @pytest.mark.parametrize("only", [None, ["image"], ["text"]])
    def test_every_tensor_is_accounted_for(self, tmp_path: Path, only: list[str] | None) -> None:
        """A tensor that neither model reads is refused, whichever of them is wanted."""
        from safetensors.numpy import load_file, save_file

        source = clip_folder(tmp_path / "clip")
        tensors = load_file(source / "model.safetensors")
        tensors["vision_model.encoder.layers.0.gate.weight"] = np.ones((4, 4), np.float32)
        save_file(tensors, source / "model.safetensors")
        with pytest.raises(ExportError, match=r"vision_model\.encoder\.layers\.0\.gate\.weight"):
            float_form(source, tmp_path / "out", towers=TowerOptions(only=only))

    def test_folder_of_open_clip(self, tmp_path: Path) -> None:
        """OpenCLIP's own names of config and weights."""
        source = write_tower(tmp_path / "open", "open_clip")
        config = json.loads((source / "config.json").read_text())
        config.pop("model_type")
        how = {"preprocess_cfg": {"size": SIDE, "mean": [0.5] * 3, "std": [0.5] * 3}}
        (source / "open_clip_config.json").write_text(json.dumps({**config, **how}))
        (source / "model.safetensors").rename(source / "open_clip_model.safetensors")
        for name in ("config.json", "preprocessor_config.json"):
            (source / name).unlink()
        manifest = float_form(source, tmp_path / "out", towers=TowerOptions(only=["image"]))
        assert manifest.towers["image"].front["crop"]["round"] == "round"

    @pytest.mark.parametrize("inner", ["", "0_CLIPModel"])
    def test_folder_of_sentence_transformers(self, tmp_path: Path, inner: str) -> None:
        """A CLIP that sentence-transformers saved as its one module, beside modules.json or in a folder of its own."""
        clip_folder(tmp_path / "clip" / inner if inner else tmp_path / "clip")
        kind = "sentence_transformers.models.CLIPModel"
        modules = [{"idx": 0, "name": "0", "path": inner, "type": kind}]
        (tmp_path / "clip" / "modules.json").write_text(json.dumps(modules))
        towers = {
            name: {"method": f"get_{name}_features", "method_output_name": "pooler_output"}
            for name in ("text", "image")
        }
        task = {"transformer_task": "feature-extraction", "modality_config": towers}
        said = {**task, "module_output_name": "sentence_embedding"}
        (tmp_path / "clip" / inner / "sentence_bert_config.json").write_text(json.dumps(said))
        manifest = float_form(tmp_path / "clip", tmp_path / "out")
        plain = float_form(clip_folder(tmp_path / "plain"), tmp_path / "out2")
        assert manifest.modalities == ("text", "image")
        assert manifest.files == plain.files
        said["modality_config"] = {"text": {"method": "other", "method_output_name": "pooler_output"}}
        (tmp_path / "clip" / inner / "sentence_bert_config.json").write_text(json.dumps(said))
        with pytest.raises(ExportError, match="module_output_name"):
            float_form(tmp_path / "clip", tmp_path / "out3")

    def test_options_without_a_use(self, tmp_path: Path) -> None:
        """What a folder says itself, and what is for models of texts alone, is refused."""
        source = clip_folder(tmp_path / "clip")
        with pytest.raises(InputError, match="no use for adapter"):
            export_model(source, tmp_path / "out", adapter=tmp_path)
        with pytest.raises(SourceError, match="holds no ONNX model"):
            export_model(source, tmp_path / "out", towers=TowerOptions(modality="image", front="x.json"))
        for wrong in ({"only": "image"}, {"only": []}, {"only": ["video"]}, {"modality": "text"}, {"front": "x"}):
            with pytest.raises(InputError):
                TowerOptions(**wrong)  # type: ignore[arg-type]


def _dim(model: onnx.ModelProto, axis: int) -> Any:
    return model.graph.input[0].type.tensor_type.shape.dim[axis]


class TestGraph:
    """ONNX graphs of any kind."""

    def of(self, model: onnx.ModelProto, folder: Path, **said: Any) -> np.ndarray[Any, Any]:
        tower_from_onnx(model, folder, GraphTower("image", front(SIDE, "squash"), **said))
        return Embedder(folder).encode_image(PICTURES)

    def test_layouts_give_the_same(self, tmp_path: Path) -> None:
        """Channels last are turned; a dim of 1 for the batch is one input; a named output is taken."""
        expected = self.of(picture_graph(), tmp_path / "first")
        assert np.abs(np.linalg.norm(expected, axis=1) - 1).max() < 1e-6
        assert np.abs(self.of(picture_graph(layout="NHWC"), tmp_path / "last") - expected).max() < 1e-6
        two = picture_graph()
        two.graph.output.append(onnx.helper.make_tensor_value_info("seen", 1, ["batch", DIM, "h", "w"]))
        assert np.array_equal(self.of(two, tmp_path / "two", output="vector"), expected)
        with pytest.raises(ExportError, match="has the outputs vector, seen: choose one with --output"):
            self.of(two, tmp_path / "none")
        with pytest.raises(ExportError, match="has no output 'other'"):
            self.of(two, tmp_path / "none", output="other")

    def test_maps_are_averaged_and_layers_put_behind(self, tmp_path: Path) -> None:
        """What a convolutional network gives before its classifier, and a projection of one's own behind it."""
        weight = onnx.numpy_helper.to_array(picture_graph().graph.initializer[1])
        found = self.of(picture_graph(maps=True), tmp_path / "maps", after=((weight, None, None),))
        assert np.abs(found - self.of(picture_graph(), tmp_path / "whole")).max() < 1e-6
        manifest = read_bundle(tmp_path / "maps").manifest
        assert manifest.towers["image"].architecture["features"]
        assert manifest.towers["image"].architecture["activation_bytes"] >= 4 * 3 * SIDE * SIDE

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda m: _dim(m, 0).__setattr__("dim_value", 4), "4 inputs at a time"),
            (lambda m: m.graph.input[0].type.tensor_type.__setattr__("elem_type", 2), "UINT8"),
            (lambda m: _dim(m, 2).__setattr__("dim_value", 99), "the front end"),
            (lambda m: m.graph.node[0].__setattr__("op_type", "Bernoulli"), "Bernoulli"),
            (lambda m: m.graph.node[0].__setattr__("domain", "ai.custom"), "ai.custom"),
        ],
    )  # fmt: skip
    def test_graph_that_cannot_be_a_tower(self, tmp_path: Path, change: Any, said: str) -> None:
        """Refused by name, and nothing is written."""
        model = picture_graph()
        change(model)
        with pytest.raises(ExportError, match=said):
            self.of(model, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_vectors_that_say_nothing(self, tmp_path: Path) -> None:
        """A graph whose vectors are the same for every picture, or nothing but zeros, is no tower."""
        with pytest.raises(ExportError, match=r"cannot be normalised|the same vector"):
            self.of(picture_graph(scale=0.0), tmp_path / "out")

    def test_several_vectors_need_their_kind(self, tmp_path: Path) -> None:
        """Vectors [batch, n, dim] are for kind "multi"."""
        with pytest.raises(ExportError, match=r"gives numbers of shape \[1, 3, 12\]"):
            self.of(several_graph(), tmp_path / "out")
        image_bundle(tmp_path / "several", kind="multi")
        assert read_bundle(tmp_path / "several").manifest.kind == "multi"

    def test_command_line(self, tmp_path: Path) -> None:
        """A graph of pictures from its file, in int8 weights, into the space of a bundle."""
        onnx.save(picture_graph(read_bundle(bundle_path("static")).manifest.dim), tmp_path / "net.onnx")
        (tmp_path / "front.json").write_text(json.dumps(front(SIDE, "squash")))
        given = ("--modality", "image", "--front", tmp_path / "front.json", "--space", "static", "--floor", "0.5")
        done("export", tmp_path / "net.onnx", tmp_path / "out", *given)
        manifest = read_bundle(tmp_path / "out").manifest
        assert manifest.space == read_bundle(bundle_path("static")).manifest.fingerprint
        tower = manifest.towers["image"]
        assert tower.quantization["weights"].startswith("int8")
        assert tower.receipt["cosine_to_fp32"]["mean"] > 0.99
        done("join", "static", tmp_path / "out", tmp_path / "both")
        failed = refused("export", tmp_path / "net.onnx", tmp_path / "no", "--modality", "image")
        assert "front" in failed
        failed = refused("export", tmp_path / "net.onnx", tmp_path / "no", *given, "--max-tokens", "9")
        assert "max_tokens" in failed


def test_golden_pictures_are_small_and_the_same() -> None:
    """A few KB that exercise a decoder: a turned JPEG, a PNG with alpha; made the same each time."""
    first, second = golden_files("image"), golden_files("image")
    assert first == second
    assert [name for name, _ in first] == ["turned.jpg", "clear.png"]
    assert all(500 < len(content) < 25_000 for _, content in first)


def test_pruned_bundle_keeps_its_towers(tmp_path: Path) -> None:
    """`prune` changes the model for texts; pictures keep their bits, and the space its name."""
    from edge_embed_export.pruning.prune import prune_bundle

    texts = read_bundle(bundle_path("static")).manifest
    image_bundle(tmp_path / "image", dim=texts.dim, space=texts.fingerprint)
    done("join", "static", tmp_path / "image", tmp_path / "both")
    manifest = prune_bundle(tmp_path / "both", tmp_path / "small", keep=5000, floor=-1.0)
    assert (manifest.modalities, manifest.space) == (("text", "image"), texts.fingerprint)
    before, after = (Embedder(tmp_path / name).encode_image(PICTURES) for name in ("both", "small"))
    assert np.array_equal(before, after)
    with pytest.raises(ExportError, match="no model for texts, and so no vocabulary"):
        prune_bundle(tmp_path / "image", tmp_path / "none", keep=10)
    shutil.rmtree(tmp_path / "small")
