"""ModernBERT (arXiv:2412.13663): pre-norm without biases, rotary positions, windows in most layers, gated."""

from edge_embed_export.families.reader import Reader
from edge_embed_export.families.rope import FULL, SLIDING, add_tables, read_rope
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.positions import visible
from edge_embed_export.transformer.spec import Layer, Spec, Weights


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    read = Reader(checkpoint, "embeddings.tok_embeddings.weight")
    biases = {name: bool(read.config.get(f"{name}_bias", False)) for name in ("norm", "attention", "mlp")}
    hidden, heads, layers = read.count("hidden_size"), read.count("num_attention_heads"), read.depth()
    max_tokens = read.reach(read.count("max_position_embeddings"))
    read.weights["embedding.word"] = read.words("embeddings.tok_embeddings.weight")
    read.norm("embedding.norm", "embeddings.norm", bias=biases["norm"])
    for i in range(layers):
        ours, theirs = f"layers.{i}", f"layers.{i}"
        read.split(
            [f"{ours}.{part}" for part in ("query", "key", "value")], f"{theirs}.attn.Wqkv", bias=biases["attention"]
        )
        read.linear(f"{ours}.out", f"{theirs}.attn.Wo", bias=biases["attention"])
        read.split([f"{ours}.gate", f"{ours}.up"], f"{theirs}.mlp.Wi", bias=biases["mlp"])
        read.linear(f"{ours}.down", f"{theirs}.mlp.Wo", bias=biases["mlp"])
        if i:  # the norm of the embeddings stands before the first layer
            read.norm(f"{ours}.attention_norm", f"{theirs}.attn_norm", bias=biases["norm"])
        read.norm(f"{ours}.output_norm", f"{theirs}.mlp_norm", bias=biases["norm"])
    read.norm("final_norm", "final_norm", bias=biases["norm"])
    kinds = _kinds(read, layers)
    for kind, name, theta in ((FULL, "global", 160000.0), (SLIDING, "local", _local_base(read))):
        rope = read_rope(read, hidden // heads, theta=theta, key=f"{name}_rope_theta", kind=kind)
        if kind in kinds:
            add_tables(read, name, rope, max_tokens)
    if SLIDING in kinds:
        window = read.count("local_attention", 128) // 2
        read.weights["positions.local"] = visible(max_tokens, window, window)
    return read.finish(
        layers=layers,
        max_tokens=max_tokens,
        norm="pre",
        norm_eps=read.epsilon("norm_eps", 1e-5),
        activation=read.activation("hidden_activation", "gelu"),
        plan=tuple(
            Layer(i, rotary="global") if kind == FULL else Layer(i, bias="local", rotary="local")
            for i, kind in enumerate(kinds)
        ),
    )


def _kinds(read: Reader, layers: int) -> list[str]:
    """Transformers 4 says how far apart global layers are, transformers 5 the kind of each layer."""
    every = read.count("global_attn_every_n_layers", 3)
    usual = [SLIDING if i % every else FULL for i in range(layers)]
    kinds = read.kinds(layers, usual)
    if kinds != usual and read.config.get("global_attn_every_n_layers") is not None:
        raise read.error(
            f"config.json: global_attn_every_n_layers is {every} and layer_types says otherwise: remove one"
        )
    return kinds


def _local_base(read: Reader) -> float:
    """That of the global layers where the key is there and null."""
    missing = read.config.get("local_rope_theta", 10000.0)
    return 10000.0 if missing is not None else read.real("global_rope_theta", 160000.0)
