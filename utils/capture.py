"""Reading the inside of a model while it runs, the same way for every implementation.

A model file owns a table from canonical names, such as ``decoder.1.cross_attn.weights``, to the
places where its modules hold these tensors. `capture` reads them during one forward pass.

==================================== ==============================================================
``{stack}.lookup``                   embedding of each token, not yet scaled, (B, T, D)
``{stack}.embed``                    scaled embedding plus position, (B, T, D)
``{stack}.{i}.{site}.q .k .v``       (B, H, position, E), unscaled
``{stack}.{i}.{site}.scores``        (B, H, Q, K), scaled, before the mask
``{stack}.{i}.{site}.weights``       (B, H, Q, K), after the softmax, before any dropout
``{stack}.{i}.{site}.context``       (B, H, Q, E), before W_O
``{stack}.{i}.{site}.out``           (B, Q, D), after W_O
``{stack}.{i}.{site}.add``           (B, Q, D), the residual sum
``{stack}.{i}.{site}.norm``          (B, Q, D), the LayerNorm of this sublayer
``{stack}.{i}.ffn.pre .act .out``    before and after the ReLU (B, T, F), and output (B, T, D)
``{stack}.{i}.ffn.add``              (B, T, D), the residual sum
``{stack}.{i}.out``                  output of layer i, (B, T, D)
``logits``                           (B, T, V)
==================================== ==============================================================

stack is ``encoder`` or ``decoder``; site ``self_attn`` or, in the decoder, ``cross_attn``. Pre-norm
models also have ``{stack}.{i}.ffn.norm`` (in post-norm that is ``{stack}.{i}.out``) and
``{stack}.norm``, the last LayerNorm.
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
        project: (model, output of any decoder layer (..., D)) -> logits (..., V): what the model
            would say if that layer were its last.
        in_common_names: from weights or gradients by the model's own names to the common ones,
            features in the common order.
        common_name: from a weight's own name to its common one, or None if it has none.
    """

    points: Mapping[str, Point]
    explicit_attention: Callable[[nn.Module], AbstractContextManager]
    logits_of: Callable[[nn.Module, Tensor, Tensor], Tensor]
    project: Callable[[nn.Module, Tensor], Tensor]
    in_common_names: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
    common_name: Callable[[str], str | None]


@contextmanager
def capture(
    model: nn.Module,
    points: Mapping[str, Point],
    gradients: dict[str, Tensor] | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Record ``points`` during one forward pass, and their gradients during one backward pass.

    Scores and weights exist only while the attention runs step by step; each model file has a
    context manager for that, ``explicit_attention``.

    Args:
        model: in eval mode.
        points: canonical name -> where to read it.
        gradients: if given, the backward pass is made inside the block too, and this is filled
            with canonical name -> gradient of its loss.

    Yields:
        Canonical name -> tensor, filled during the pass; detached, on the CPU.

    Raises:
        ValueError: the model is in training mode, where weights carry dropout.
        RuntimeError: a point never fired (a fused kernel keeps no weights), fired twice (two
            forward passes, or a decoding loop), or does not exist; or no gradient reached it.
    """
    if model.training:
        raise ValueError("capture needs model.eval(): in training mode dropout disturbs weights")
    found: dict[str, Tensor] = {}
    with ExitStack() as hooks:  # removes every hook, also after an exception
        recorder = _Recorder(found, gradients, hooks)
        for name, point in points.items():
            hooks.callback(_attach(model, name, point, recorder).remove)
        yield found
    if missing := [name for name in points if name not in found]:
        raise RuntimeError(
            f"never recorded: {_few(missing)}; is the attention running in a fused kernel?"
        )
    if gradients is not None and (missing := [n for n in points if n not in gradients]):
        raise RuntimeError(f"no gradient reached {_few(missing)}; was there a backward pass?")


def _few(names: list[str]) -> str:
    return f"{', '.join(names[:5])}{' ...' * (len(names) > 5)}"


@dataclass
class _Recorder:
    """Takes tensors as they come by, and their gradients as they come back.

    Attributes:
        found: canonical name -> tensor.
        gradients: canonical name -> gradient; None takes none.
        hooks: where the hooks on tensors are to be removed.
    """

    found: dict[str, Tensor]
    gradients: dict[str, Tensor] | None
    hooks: ExitStack

    def record(self, name: str, point: Point, tensor: Tensor) -> None:
        self._keep(self.found, name, point.pick(tensor))
        if self.gradients is not None and tensor.requires_grad:

            def take(gradient: Tensor) -> None:
                self._keep(self.gradients, name, point.pick(gradient))

            self.hooks.callback(tensor.register_hook(take).remove)

    @staticmethod
    def _keep(kept: dict[str, Tensor], name: str, tensor: Tensor) -> None:
        if name in kept:
            raise RuntimeError(f"{name} was recorded twice: capture takes one pass")
        kept[name] = tensor.detach().cpu()


def _attach(model: nn.Module, name: str, point: Point, recorder: _Recorder) -> Any:
    """Hook one point; returns the hook's handle."""
    try:
        module = model.get_submodule(point.module)
    except AttributeError as error:
        raise RuntimeError(
            f"{name}: the model has no {point.module}; is it under explicit_attention?"
        ) from error
    if point.side == "input":
        return module.register_forward_pre_hook(
            lambda module, inputs: recorder.record(name, point, inputs[0])
        )
    return module.register_forward_hook(
        # Some layers return a tuple: their output first, then what else they know.
        lambda module, inputs, output: recorder.record(
            name, point, output[0] if isinstance(output, tuple) else output
        )
    )
