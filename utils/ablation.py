"""What each attention head is worth: the model's scores with that head silenced.

A head is silenced by setting its context to zero before W_O, the mask of Michel et al. 2019, "Are
Sixteen Heads Really Better than One?". The other heads, W_O's bias and the residual connection
stay. Silenced heads are not replaced by their mean and nothing is trained anew, so a change says
how much the trained model relies on the head, not what a model without it could learn.

Letters used in shapes: A attentions, H heads, B sentences, R rows of a repeated batch, Q query
positions, T target positions, E width of a head, V vocabulary entries.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.analysis import HeadAblation, Labelled, attention_label, padded
from utils.batching import Batch
from utils.capture import Inside, Point, capture
from utils.objective import IGNORED_LABEL, at_least_float32
from utils.tokenizer import NEVER_GENERATED

LOGITS_AT_ONCE = 2**24  # of all repetitions of a batch together; 64 MB in single precision


def ablate_heads(
    model: nn.Module,
    inside: Inside,
    batches: Iterable[Batch],
    never_generated: Sequence[int] = NEVER_GENERATED,
) -> HeadAblation:
    """Silence each head of each attention in turn, and score the model on the same sentences.

    Exact match needs no search: greedy search writes the reference, token by token, exactly when,
    given the reference so far, the most probable token that may be generated is the right one at
    every position. (The same text in other pieces does not count.)

    Args:
        model: of either implementation; scored in eval mode, left in the mode it was in.
        inside: how to look into it.
        batches: the sentences to score.
        never_generated: ids that a search never writes.

    Raises:
        ValueError: there are no sentences.
    """
    names = [n.removesuffix(".context") for n in inside.points if n.endswith(".context")]
    device = next(model.parameters()).device
    whole, without = np.zeros(2), {}
    num_tokens = num_sentences = 0
    with _evaluating(model), torch.no_grad(), inside.explicit_attention(model):
        for batch in batches:
            scorer = _Scorer(model, inside, batch.to(device), list(never_generated))
            scores, num_heads, num_logits = scorer.whole(names)
            whole = whole + scores
            at_once = max(1, LOGITS_AT_ONCE // num_logits)
            for name in names:
                scores = scorer.without_each(name, num_heads[name], at_once)
                without[name] = without.get(name, 0) + scores
            num_tokens += batch.num_target_tokens
            num_sentences += len(batch.labels)
    if num_sentences == 0:
        raise ValueError("there are no sentences to score")
    per = np.array([num_tokens, num_sentences])
    changes = [(without[name] - whole) / per for name in names]
    return _result(names, changes, whole / per, num_sentences)


def _result(
    names: Sequence[str], changes: Sequence[np.ndarray], baseline: np.ndarray, num_sentences: int
) -> HeadAblation:
    table = padded(changes)
    axes = {
        "attention": [attention_label(name) for name in names],
        "head": [f"head {head + 1}" for head in range(table.shape[1])],
    }
    return HeadAblation(
        nll=Labelled(
            values=table[..., 0],
            name="change of the NLL without the head",
            unit="nats per target token",
            axes=axes,
        ),
        exact_match=Labelled(
            values=table[..., 1],
            name="change of exact match without the head",
            unit="share of sentences",
            axes=axes,
        ),
        baseline_nll=float(baseline[0]),
        baseline_exact_match=float(baseline[1]),
        num_sentences=num_sentences,
    )


@dataclass(frozen=True)
class _Scorer:
    """Scores of one batch, summed over its sentences: NLL in nats, and exact matches.

    Attributes:
        model: in eval mode, its attention running step by step.
        inside: how to look into it.
        batch: on the model's device.
        never_generated: ids that no prediction is allowed to be.
    """

    model: nn.Module
    inside: Inside
    batch: Batch
    never_generated: list[int]

    def whole(self, attentions: Sequence[str]) -> tuple[np.ndarray, dict[str, int], int]:
        """Scores (2,) of the whole model, the heads of each attention, and the logits' number."""
        names = [*(f"{name}.context" for name in attentions), "logits"]
        with capture(self.model, {name: self.inside.points[name] for name in names}) as found:
            scores = self.repeated(1)[0]
        num_logits = found.pop("logits").numel()
        num_heads = {n.removesuffix(".context"): c.size(1) for n, c in found.items()}
        return scores, num_heads, num_logits

    def without_each(self, attention: str, num_heads: int, at_once: int) -> np.ndarray:
        """Scores (H, 2) with each head of one attention silenced.

        Args:
            attention: canonical name.
            num_heads: its heads H.
            at_once: heads to be silenced in one pass, each in a repetition of the batch.
        """
        point, size = self.inside.points[f"{attention}.context"], len(self.batch.labels)
        scores = []
        for heads in torch.arange(num_heads, device=self.batch.labels.device).split(at_once):
            silent = F.one_hot(heads, num_heads).bool().repeat_interleave(size, dim=0)  # (R, H)
            with _silenced(self.model, point, silent):
                scores.append(self.repeated(len(heads)))
        return np.concatenate(scores)

    def repeated(self, times: int) -> np.ndarray:
        """Scores (times, 2) of each repetition of the batch."""
        src_ids, inputs, labels = (tensor.repeat(times, 1) for tensor in self.batch[:3])
        logits = at_least_float32(self.inside.logits_of(self.model, src_ids, inputs))  # (R, T, V)
        nll = F.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED_LABEL, reduction="none"
        ).view_as(labels)
        logits[..., self.never_generated] = -torch.inf
        right = (logits.argmax(dim=-1) == labels) | (labels == IGNORED_LABEL)
        scores = torch.stack([nll.double().sum(dim=1), right.all(dim=1).double()], dim=1)
        return scores.view(times, -1, 2).sum(dim=1).cpu().numpy()


@contextmanager
def _silenced(model: nn.Module, point: Point, silent: Tensor) -> Iterator[None]:
    """Set the context (R, H, Q, E) to zero where ``silent`` (R, H) is True."""
    handle = model.get_submodule(point.module).register_forward_hook(
        # What a hook returns takes the output's place.
        lambda module, inputs, context: context.masked_fill(silent[..., None, None], 0)
    )
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Keep the model in eval mode; afterwards every module is in the mode it was in."""
    training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in training:
            module.training = mode
