"""Classes of sentence-transformers' modules by the names that modules.json calls them, before release 5.4 and since.

A name is taken whole: `my_code.Transformer` is code of somebody's own, which is never run and may do anything.
"""

import re

# Packages that have a class, behind `sentence_transformers.`: first where releases before 5.4 have it. A package that
# gives on what another has is a name of it, too.
_BASE = ("models", "base.modules", "sentence_transformer.modules", "sparse_encoder.modules", "cross_encoder.modules")
_TEXT = ("models", "sentence_transformer.modules")
_SPARSE = ("sparse_encoder.models", "sparse_encoder.modules")
_MULTI = ("multi_vector_encoder.modules",)
PACKAGES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("Transformer", "Dense", "Normalize", "Router", "Asym"), _BASE),
    **dict.fromkeys(("Pooling", "WeightedLayerPooling", "LayerNorm", "Dropout", "StaticEmbedding"), _TEXT),
    **dict.fromkeys(("BoW", "CNN", "LSTM", "CLIPModel", "WordEmbeddings", "WordWeights"), _TEXT),
    **dict.fromkeys(("MLMTransformer", "SpladePooling", "SparseStaticEmbedding", "SparseAutoEncoder"), _SPARSE),
    **dict.fromkeys(("MultiVectorMask", "HierarchicalTokenPooling", "LambdaTokenPooling"), _MULTI),
    "LogitScore": ("cross_encoder.modules",),
}
# Files of the packages called `modules` that are not named as their class.
_FILES = {"Asym": "router", "BoW": "bow"}
_FILES |= dict.fromkeys(("HierarchicalTokenPooling", "LambdaTokenPooling"), "token_pooling")
# Classes of others that do what one of sentence-transformers does. Jina's hands a task on to the model, for which an
# export has an option; PyLate's Dense is for the vectors of tokens; torch's does nothing.
OTHERS = {
    "custom_st.Transformer": "JinaTransformer",
    "pylate.models.Dense.Dense": "Dense",
    "torch.nn.modules.linear.Identity": "Identity",
    "torch.nn.Identity": "Identity",
}


def module_class(path: str) -> str | None:
    """The class that a `type` of modules.json names, or None for code of somebody's own.

    "sentence_transformers.models.Pooling" -> "Pooling"
    "sentence_transformers.base.modules.dense.Dense" -> "Dense"
    """
    if path in OTHERS:
        return OTHERS[path]
    name = path.rpartition(".")[2]
    words = re.sub("(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    for package in PACKAGES.get(name, ()):
        file = name if package.endswith("models") else _FILES.get(name, words)
        if path in (f"sentence_transformers.{package}.{name}", f"sentence_transformers.{package}.{file}.{name}"):
            return name
    return None
