"""What a reader calls what files name in English: the parts of a model, quantities, units."""

import re

from utils.analysis import attention_label, layer_label
from utils.language import Message, message


def attention_name(name: str) -> Message:
    """An attention in short, by its canonical name or its label: ``decoder 1 cross``."""
    stack, layer, site = (attention_label(name) if "." in name else name).split()
    return message(f"label.attention.{stack}_{site}", layer=layer)


def attention_in_full(name: str) -> Message:
    """An attention, by its canonical name: ``decoder layer 1, cross-attention``."""
    stack, layer, site = attention_label(name).split()
    return message(f"page.name.{stack}_{site}", layer=layer)


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
    return message(f"label.state.{_as_key(label)}")


def quantity_name(label: str) -> Message:
    """What was measured, by its label: ``entropy``, ``effective rank, at most 16``."""
    quantity, _, most = label.partition(", at most ")
    values = {"most": most} if most else {}
    return message(f"label.quantity.{_as_key(quantity)}", **values)


def unit_name(label: str) -> Message:
    """A unit, by its label: ``nats``, ``0 to 1``."""
    return message(f"label.unit.{_as_key(label)}")


def site_name(site: str) -> Message:
    """A site of a layer, as in `utils.timelines.SITES`."""
    attention, _, role = site.rpartition(".")
    if not attention:
        return role_name(role)
    return message(f"label.site.{attention.removesuffix('_attn')}", role=role_name(role))


def role_name(role: str) -> Message:
    """A kind of weight: ``q``, ``ffn1``."""
    return message(f"label.role.{role}")


def _as_key(label: str) -> str:
    return re.sub(r"\W+", "_", label)
