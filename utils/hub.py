"""Translation sets on the Hugging Face hub, through `datasets`; or from its cache, offline."""

from collections.abc import Mapping
from typing import Any

from utils.config import DataConfig, UserError

TIMEOUT_SECONDS = 5


def load_from_hub(name: str, config: DataConfig) -> Mapping[str, Any]:
    """All splits, in the configuration of the language pair where there are several.

    Without a network the datasets cached before are used, and nothing is waited for.

    Raises:
        UserError: the dataset has no configuration for the language pair.
        Exception: of `datasets` or below it, when the dataset cannot be had.
    """
    import datasets

    if not datasets.config.HF_HUB_OFFLINE and not hub_answers():
        # `datasets` would repeat each request for half a minute before it looks in its cache.
        datasets.config.HF_HUB_OFFLINE = True
    names = datasets.get_dataset_config_names(name)
    directions = (f"{config.src_lang}-{config.tgt_lang}", f"{config.tgt_lang}-{config.src_lang}")
    endings = tuple(direction.replace("_", "-") for direction in directions)
    matching = [known for known in names if known.replace("_", "-").endswith(endings)]
    candidates: list[str | None] = sorted(matching, key=len)[:1] or [None]
    if not matching and datasets.config.HF_HUB_OFFLINE:
        candidates = [*directions, None]  # the cache does not tell which configurations it has
    for candidate in candidates:
        try:
            return datasets.load_dataset(name, candidate)
        except ValueError as error:
            refusal = error
    if len(names) > 1 and not matching:
        raise UserError(
            f"{name} has no configuration for {directions[0]}; it has {', '.join(names[:20])}: "
            "choose with --src_lang and --tgt_lang"
        ) from refusal
    raise refusal


def hub_answers() -> bool:
    """Whether the hub can be reached at all: asked once, and briefly."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT_SECONDS)
    except Exception:  # its network library, and with it the errors, differs between versions
        return False
    return True
