"""What a reader calls the parts of a model, in their language; files keep the English labels."""

from utils.analysis import attention_label, layer_label
from utils.language import Message, message


def attention_name(name: str) -> Message:
    """An attention, by its canonical name or its label: ``decoder 1 cross``."""
    stack, layer, site = (attention_label(name) if "." in name else name).split()
    return message(f"label.attention.{stack}_{site}", layer=layer)


def layer_name(name: str) -> Message:
    """A layer, by what begins with its canonical name, or by its label: ``decoder 1``."""
    stack, place = (layer_label(name) if "." in name else name).split()
    if place == "input":
        return message(f"label.input.{stack}")
    return message(f"label.layer.{stack}", layer=place)


def state_name(label: str) -> Message:
    """What vectors went through, by its label: ``embedding``, ``layer 1``, ``step 100``."""
    kind, _, number = label.rpartition(" ")
    if number.isdecimal():
        return message(f"label.state.{kind}", number=number)
    return message(f"label.state.{label.replace(' ', '_')}")
