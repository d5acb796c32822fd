"""What the reference gives for texts: a program that compare.py runs in a process of its own, and nobody imports.

    python -P reference.py REQUEST.json ANSWER

It reads the request of `compare.Verifier`, and writes ANSWER.json, with what it compared or the reason why
it could not, and ANSWER.npz, with an array for each text. Code in a folder is never run, and no network is used.
"""

import importlib
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = {"dense": "SentenceTransformer", "sparse": "SparseEncoder", "multi": "MultiVectorEncoder"}
# From this release on sentence-transformers leaves white space at the ends of texts.
KEEPS_SPACE = (5, 4)
POOLINGS = {
    "mean": "mean",
    "cls": "cls",
    "max": "max",
    "last": "lasttoken",
    "mean_sqrt_len": "mean_sqrt_len_tokens",
    "weighted_mean": "weightedmean",
}
# Models of pictures and texts by model_type: the class whose text tower gives vectors, and whether its texts are all
# filled up to one length without a mask, as the model was trained.
TOWERS = {
    "clip": ("CLIPModel", False),
    "clip_text_model": ("CLIPTextModelWithProjection", False),
    "metaclip_2": ("MetaClip2Model", False),
    "metaclip_2_text_model": ("MetaClip2TextModelWithProjection", False),
    "siglip": ("SiglipModel", True),
    "siglip_text_model": ("SiglipTextModel", True),
    "chinese_clip": ("ChineseCLIPModel", False),
    "altclip": ("AltCLIPModel", False),
    "blip-2": ("Blip2TextModelWithProjection", False),
}
# A limit that is none: what transformers gives a tokenizer that has none.
NO_LIMIT = 10**6


class NotComparable(Exception):
    """Why the reference says nothing about this model."""


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    answer = Path(sys.argv[2])
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    rows: list[np.ndarray[Any, Any]] = []
    try:
        facts = dict(answer_why(request)) if request["why"] else {}
        if not request["why"]:
            rows, facts = answer_rows(request)
    except Exception as error:  # noqa: BLE001 - whatever the libraries raise is why nothing can be said
        name = "" if isinstance(error, NotComparable) else f"{type(error).__name__}: "
        facts = {"reason": name + " ".join(str(error).split())[:400]}
    with answer.with_suffix(".npz").open("wb") as file:
        np.savez(file, **dict[str, Any]({str(i): row for i, row in enumerate(rows)}))
    answer.with_suffix(".json").write_text(json.dumps(facts), encoding="utf-8")


def answer_rows(request: dict[str, Any]) -> tuple[list[np.ndarray[Any, Any]], dict[str, Any]]:
    """An array for each text, and which releases gave them."""
    torch: Any = importlib.import_module("torch")
    alone = not request["sentence_transformers"]
    if request["kind"] == "rerank":
        encode = load_pairs(request, torch)
    elif kind_of(Path(request["folder"])) in TOWERS and not modules(Path(request["folder"])):
        encode, alone = load_tower(request, torch), True
    else:
        encode = load_plain(request, torch) if alone else load(request, torch)
    names = ("transformers", "torch") if alone else ("sentence-transformers", "transformers", "torch")
    with torch.inference_mode():
        rows = [np.asarray(encode(role, text), np.float32) for role, text in request["texts"]]
    versions = importlib.import_module("importlib.metadata")
    return rows, {"against": ", ".join(f"{name} {versions.version(name).partition('+')[0]}" for name in names)}


def load_pairs(request: dict[str, Any], torch: Any) -> "Encode":
    """By CrossEncoder: the numbers of a pair, and what its activation makes of them; the first text is in the place of
    a role."""
    if not request["sentence_transformers"]:
        raise NotComparable("sentence-transformers is not installed, and transformers alone scores no pairs")
    if request["adapter"]:
        raise NotComparable("an adapter was added, which its CrossEncoder does not load")
    library: Any = importlib.import_module("sentence_transformers")
    options = {"device": "cpu", "trust_remote_code": False, "local_files_only": True}
    model = library.CrossEncoder(request["folder"], model_kwargs={"dtype": torch.float32}, **options)
    model.eval()
    tokenizer, limit = model.tokenizer, request["max_tokens"]
    if request["limited"] or tokenizer.model_max_length > limit:  # more than it has positions for
        tokenizer.model_max_length = limit
    activation = model.activation_fn

    def encode(first: str | None, second: str) -> Any:
        numbers = model.predict([(first, second)], activation_fn=torch.nn.Identity(), convert_to_tensor=True)
        numbers = numbers.float().reshape(1, -1)
        return torch.cat([numbers, activation(numbers)], dim=1)[0].numpy()

    return encode


Encode = Callable[[str | None, str], Any]


def load(request: dict[str, Any], torch: Any) -> Encode:
    """By sentence-transformers, as its users do: with the prompts, limits and ways for roles that it finds itself."""
    library: Any = importlib.import_module("sentence_transformers")
    name = CLASSES[request["kind"]]
    if not hasattr(library, name):
        raise NotComparable(f"sentence-transformers {library.__version__} has no {name}")
    options = {"device": "cpu", "trust_remote_code": False, "local_files_only": True}
    made = kwargs_of(Path(request["folder"]), torch)
    model = getattr(library, name)(request["folder"], model_kwargs=made, **options).float().eval()
    if request["adapter"]:
        model.load_adapter(request["adapter"])
    if request["pooling"]:
        set_pooling(model, request["pooling"])
    leave_out(model, request["left_out"])
    for limited in networks(model):
        own, limit = getattr(limited, "max_seq_length", None), request["max_tokens"]
        # what the caller asked for, or the most that this exporter takes where nothing gives a limit
        if limit is not None and (request["limited"] or own is None or own > NO_LIMIT):
            limited.max_seq_length = limit
    keeps = tuple(int(part) for part in library.__version__.split(".")[:2]) >= KEEPS_SPACE
    if request["strip"] and keeps:
        strip_texts(model)
    given, lost = request["prompts"], needs_role(model)

    def encode(role: str | None, text: str) -> Any:
        if (role is None and lost) or (not request["strip"] and not keeps and text != text.strip()):
            return np.full(1, np.nan)
        options: dict[str, Any] = {"batch_size": 1, "show_progress_bar": False, "convert_to_numpy": True}
        if request["kind"] == "sparse":
            options = {"batch_size": 1, "show_progress_bar": False, "convert_to_sparse_tensor": False}
        if role is None:
            usual = given.get(request["default"])  # the reference knows it, but for what the caller said
            return model.encode([text], **options, **({"prompt": usual["text"]} if usual and usual["said"] else {}))[0]
        options |= prompt_of(model, role, given.get(role))
        return getattr(model, f"encode_{role}")([text], **options)[0]

    return encode


def kwargs_of(folder: Path, torch: Any) -> dict[str, Any]:
    """How the network of a folder is made: in float32, and where scores have a cap so that transformers 4 heeds it."""
    path = folder / "config.json"
    capped = path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("attn_logit_softcapping")
    return {"dtype": torch.float32, **({"attn_implementation": "eager"} if capped else {})}


def prompt_of(model: Any, role: str, given: dict[str, Any] | None) -> dict[str, Any]:
    """What to say about a prompt: nothing where the reference has one of its own, and the caller gave no other."""
    names = ("query",) if role == "query" else ("document", "passage", "corpus")
    own = next((model.prompts[name] for name in names if name in model.prompts), None)
    if given is None or (own and not given["said"]):
        return {}
    return {"prompt": given["text"]}


def leave_out(model: Any, which: str) -> None:
    """Leave prompts out of pooling as the bundle does, also where the folder's name says so and not its files."""
    if which not in ("", "prompt"):
        raise NotComparable("the model's own code leaves the tokens of an instruction out, and it is never run")
    if which:
        model.set_pooling_include_prompt(False)


def routers(model: Any) -> list[Any]:
    return [module for module in model.children() if type(module).__name__ in ("Router", "Asym")]


def networks(model: Any) -> list[Any]:
    """What has a limit of tokens: the model, or the networks of a Router, which may have a table beside them."""
    first = next(iter(model.children()))
    if first not in routers(model):
        return [model]
    return [module for module in first.modules() if type(module).__name__.endswith("Transformer")]


def needs_role(model: Any) -> bool:
    """Whether it has a Router without a route for texts that have no role."""
    return any(getattr(router, "default_route", None) is None for router in routers(model))


def set_pooling(model: Any, pooling: str) -> None:
    """Pool as the bundle does, where the folder does not say how."""
    if pooling not in POOLINGS:
        raise NotComparable(f"it cannot pool by {pooling!r}")
    for name, module in list(model.named_children()):
        if type(module).__name__ == "Pooling":
            ask = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
            setattr(model, name, type(module)(ask(), POOLINGS[pooling]))


def strip_texts(model: Any) -> None:
    """Take white space away as releases before 5.4 do, before the tokenizer sees a text."""
    tokenizer = getattr(model, "tokenizer", None)
    if not callable(tokenizer):
        return
    kind = type(tokenizer)

    def stripped(self: Any, text: Any = None, *given: Any, **options: Any) -> Any:
        text = [one.strip() for one in text] if isinstance(text, list) else text
        return kind.__call__(self, text, *given, **options)

    tokenizer.__class__ = type(kind.__name__, (kind,), {"__call__": stripped})


def load_plain(request: dict[str, Any], torch: Any) -> Encode:
    """By transformers alone: a network, and one pooling."""
    transformers: Any = importlib.import_module("transformers")
    folder, pooling = Path(request["folder"]), request["pooled"]
    others = [kind for kind, _ in modules(folder) if kind not in ("Transformer", "Pooling", "Normalize")]
    if others or request["kind"] != "dense" or pooling not in POOLINGS or request["adapter"] or request["left_out"]:
        raise NotComparable("sentence-transformers is not installed, and transformers alone has no such modules")
    network = network_folder(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(network, trust_remote_code=False, local_files_only=True)
    model = load_network(network, transformers, torch)[0].eval()

    def encode(role: str | None, text: str) -> Any:
        prompt = (request["prompts"].get(role or request["default"]) or {"text": ""})["text"]
        whole = (prompt + text).strip() if request["strip"] else prompt + text
        tokens = tokenizer([whole], truncation=True, max_length=request["max_tokens"], return_tensors="pt")
        fed = {key: tokens[key] for key in ("input_ids", "attention_mask", "token_type_ids") if key in tokens}
        return pool(model(**fed)[0][0], pooling, torch).numpy()

    return encode


def load_tower(request: dict[str, Any], torch: Any) -> Encode:
    """By transformers: the text tower of a model of pictures and texts, with its projection."""
    transformers: Any = importlib.import_module("transformers")
    folder = Path(request["folder"])
    name, filled = TOWERS[kind_of(folder)]
    if not hasattr(transformers, name) or request["adapter"]:
        raise NotComparable(f"transformers {transformers.__version__} has no {name}")
    options = {"trust_remote_code": False, "local_files_only": True}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
    model, info = getattr(transformers, name).from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, local_files_only=True
    )
    if missing := sorted(str(key) for key in info.get("missing_keys", ())):
        raise NotComparable(f"it lacks weights for {', '.join(missing[:4])}, and makes them up")
    model.eval()
    config = getattr(model.config, "text_config", model.config)
    length = config.max_position_embeddings if filled else None

    def encode(role: str | None, text: str) -> Any:
        prompt = (request["prompts"].get(role or request["default"]) or {"text": ""})["text"]
        ids = tokenizer([prompt + text], truncation=True, max_length=request["max_tokens"]).input_ids[0]
        if length is not None:
            ids = ids + [tokenizer.pad_token_id] * (min(length, tokenizer.model_max_length) - len(ids))
        return vector_of(model, torch.tensor([ids])).float().numpy()[0]

    return encode


def vector_of(model: Any, ids: Any) -> Any:
    """The text tower's vectors [1, dim], before they get length 1."""
    ask = getattr(model, "get_text_features", None)
    found = model(input_ids=ids) if ask is None else ask(input_ids=ids)
    for name in ("text_embeds", "pooler_output"):
        if getattr(found, name, None) is not None:
            found = getattr(found, name)
            break
    return found[:, 0] if found.ndim == 3 else found


def kind_of(folder: Path) -> str:
    """`model_type` of config.json."""
    path = folder / "config.json"
    return str(json.loads(path.read_text(encoding="utf-8")).get("model_type")) if path.is_file() else ""


def pool(states: Any, pooling: str, torch: Any) -> Any:
    """One vector of the states [tokens, hidden] of a text."""
    if pooling == "weighted_mean":
        weights = torch.arange(1, len(states) + 1)[:, None]
        return (states * weights).sum(0) / weights.sum()
    if pooling == "mean_sqrt_len":
        return states.sum(0) / len(states) ** 0.5
    return {
        "mean": lambda: states.mean(0),
        "cls": lambda: states[0],
        "last": lambda: states[-1],
        "max": lambda: states.max(0).values,
    }[pooling]()


def load_network(folder: Path, transformers: Any, torch: Any) -> tuple[Any, dict[str, Any]]:
    """The encoder of a folder in float32, and what transformers says of its weights."""
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    encoders = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel"}
    kind = getattr(transformers, encoders.get(config.model_type, "AutoModel"))
    options = {"trust_remote_code": False, "local_files_only": True, "output_loading_info": True}
    model, info = kind.from_pretrained(folder, **kwargs_of(folder, torch), **options)
    return model, dict(info)


def answer_why(request: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Weights that the reference makes up, which say why it gives other vectors."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    _, info = load_network(network_folder(Path(request["folder"])), transformers, torch)
    missing = sorted(str(key) for key in info.get("missing_keys", ()) if "pooler" not in str(key))
    yield "missing", missing[:8]


def modules(folder: Path) -> list[tuple[str, str]]:
    """What modules.json lists: kinds and paths."""
    path = folder / "modules.json"
    listed = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return [(str(one["type"]).rsplit(".", 1)[-1], str(one["path"])) for one in listed]


def network_folder(folder: Path) -> Path:
    """The folder of the network itself: old releases of sentence-transformers gave it one of its own."""
    return folder / next((path for kind, path in modules(folder) if kind.endswith("Transformer")), "")


if __name__ == "__main__":
    main()
