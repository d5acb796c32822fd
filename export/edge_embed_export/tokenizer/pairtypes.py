"""Whether the types of a pair's tokens, 0 in its first text and 1 in its second, are given to the model."""

from edge_embed_export.tokenizer import classes, rebuild
from edge_embed_export.tokenizer.parts import Part
from edge_embed_export.tokenizer.settings import GENERIC_NAMES, Settings

NAME = "token_type_ids"
# Classes whose `model_input_names` have NAME, in transformers 4.57 and 5.24; in 4 also those that no class is named of.
TYPED = frozenset({
    "BertTokenizer", "ElectraTokenizer", "DebertaTokenizer", "DebertaV2Tokenizer", "MobileBertTokenizer",
    "ConvBertTokenizer", "SqueezeBertTokenizer",
})  # fmt: skip
TYPED_4 = TYPED | GENERIC_NAMES | {"AlbertTokenizer", "RemBertTokenizer", "FNetTokenizer", "BigBirdTokenizer"}


def gives_types(settings: Settings, tokenizer: Part) -> bool:
    """As the release of transformers does that the folder was written with."""
    named = settings.values.get("model_input_names")
    asked = settings.values.get("return_token_type_ids")
    if isinstance(asked, bool):
        return asked
    if isinstance(named, list):
        return NAME in named
    if settings.major == 5:
        return rebuild.class_of(settings, tokenizer["model"], tokenizer.get("pre_tokenizer")) in TYPED
    return classes.class_of(settings, tokenizer["model"]) in TYPED_4
