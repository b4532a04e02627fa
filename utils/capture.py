"""Reading the inside of a model while it runs, the same way for every implementation.

A model file owns a table from canonical names, such as ``decoder.1.cross_attn.weights``, to the
places where its modules hold these tensors. `capture` reads them during one forward pass.

==================================== ==============================================================
``{stack}.embed``                    embedding plus position, (B, T, D)
``{stack}.{i}.{site}.q .k .v``       (B, H, position, E), unscaled
``{stack}.{i}.{site}.scores``        (B, H, Q, K), scaled, before the mask
``{stack}.{i}.{site}.weights``       (B, H, Q, K), after the softmax, before any dropout
``{stack}.{i}.{site}.context``       (B, H, Q, E), before W_O
``{stack}.{i}.{site}.out``           (B, Q, D), after W_O
``{stack}.{i}.{site}.norm``          (B, Q, D), the LayerNorm of this sublayer
``{stack}.{i}.ffn.pre .act .out``    before and after the ReLU (B, T, F), and output (B, T, D)
``{stack}.{i}.out``                  output of layer i, (B, T, D)
``logits``                           (B, T, V)
==================================== ==============================================================

stack is ``encoder`` or ``decoder``; site ``self_attn`` or, in the decoder, ``cross_attn``.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn


def unchanged(tensor: Tensor) -> Tensor:
    """The tensor as it is."""
    return tensor


@dataclass(frozen=True)
class Point:
    """Where a quantity can be read.

    Attributes:
        module: path of a module, as `nn.Module.get_submodule` takes it.
        side: whether it is the module's first input or its output.
        pick: from that tensor to the one with the canonical layout.
    """

    module: str
    side: Literal["input", "output"] = "output"
    pick: Callable[[Tensor], Tensor] = unchanged


@dataclass(frozen=True, kw_only=True)
class Inside:
    """How to look into one implementation.

    Attributes:
        points: canonical name -> where to read it, in the order of computation.
        explicit_attention: lets the attention of a model run step by step while entered.
        logits_of: (model, source tokens, decoder inputs) -> logits (B, T, V).
    """

    points: Mapping[str, Point]
    explicit_attention: Callable[[nn.Module], AbstractContextManager]
    logits_of: Callable[[nn.Module, Tensor, Tensor], Tensor]


@contextmanager
def capture(model: nn.Module, points: Mapping[str, Point]) -> Iterator[dict[str, Tensor]]:
    """Record ``points`` during one forward pass.

    Scores and weights exist only while the attention runs step by step; each model file has a
    context manager for that, ``explicit_attention``.

    Args:
        model: in eval mode.
        points: canonical name -> where to read it.

    Yields:
        Canonical name -> tensor, filled during the pass; detached, on the CPU.

    Raises:
        ValueError: the model is in training mode, where weights carry dropout.
        RuntimeError: a point never fired (a fused kernel keeps no weights), fired twice (two
            forward passes, or a decoding loop), or does not exist.
    """
    if model.training:
        raise ValueError("capture needs model.eval(): in training mode dropout disturbs weights")
    found: dict[str, Tensor] = {}
    with ExitStack() as hooks:  # removes every hook, also after an exception
        for name, point in points.items():
            hooks.callback(_attach(model, name, point, found).remove)
        yield found
    if missing := [name for name in points if name not in found]:
        raise RuntimeError(
            f"never recorded: {', '.join(missing[:5])}{' ...' * (len(missing) > 5)}; "
            "is the attention running in a fused kernel?"
        )


def _attach(model: nn.Module, name: str, point: Point, found: dict[str, Tensor]) -> Any:
    """Hook one point; returns the hook's handle."""

    def record(tensor: Tensor) -> None:
        if name in found:
            raise RuntimeError(f"{name} was recorded twice: capture takes one forward pass")
        found[name] = point.pick(tensor).detach().cpu()

    try:
        module = model.get_submodule(point.module)
    except AttributeError as error:
        raise RuntimeError(
            f"{name}: the model has no {point.module}; is it under explicit_attention?"
        ) from error
    if point.side == "input":
        return module.register_forward_pre_hook(lambda module, inputs: record(inputs[0]))
    return module.register_forward_hook(
        # Some layers return a tuple: their output first, then what else they know.
        lambda module, inputs, output: record(output[0] if isinstance(output, tuple) else output)
    )
