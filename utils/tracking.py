"""Following a model's insides while it is trained.

Now and then one fixed batch passes through the model in eval mode, forward and back, and what is
inside is measured. When, depends on step numbers alone, and nothing that training uses is touched:
a run is the same with and without it.

Letters used in shapes: B sentences, H heads, T positions, Q/K query/key positions, N tokens,
D width of the model.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from utils import analysis
from utils.analysis import Captured
from utils.batching import TokenizedPairs, collate
from utils.capture import Inside, capture
from utils.history import MOST_MAPPED_STEPS, MOST_RECORDS, History, Spread
from utils.objective import IGNORED_LABEL, smoothed_loss_sum
from utils.probe import attention_numbers, ffn_numbers, vector_numbers, weight_numbers
from utils.tokenizer import PAD_ID, Tokenizer

Report = Callable[[dict[str, Any], History], None]  # (line for metrics.jsonl, all so far)

PROBE_SENTENCES = 8
LONGEST_PROBED = 40  # tokens: figures stay readable and maps small
MAPPED_SENTENCES = 2  # whose attention maps are kept
MOST_TOKENS = 24  # whose embeddings are kept


@dataclass(frozen=True)
class ProbePlan:
    """After which optimizer steps to probe.

    Attributes:
        num_steps: of the whole run; the last is always probed, and step 0, before training.
        every: steps between two probes; None leaves it to ``count``.
        count: probes in the run, close together at first, when most happens:
            step number k of K is ``num_steps * (k / K)^2``.
    """

    num_steps: int
    every: int | None
    count: int

    def is_due(self, step: int) -> bool:
        """Whether to probe after ``step``."""
        if step in (0, self.num_steps):
            return True
        if self.every is not None:
            return step % self.every == 0
        nearest = round(self.count * (step / self.num_steps) ** 0.5)
        return step == round(self.num_steps * (nearest / self.count) ** 2)


def probe_pairs(pairs: TokenizedPairs) -> list[int]:
    """Indices of the evaluation sentences that are probed: the first that are not too long."""
    longest = pairs.lengths.max(axis=1)
    order = np.argsort(longest > LONGEST_PROBED, kind="stable")  # short ones first, in order
    return order[:PROBE_SENTENCES].tolist()


class Tracker:
    """Probes a model in training, and remembers a bounded number of probes.

    Args:
        inside: how to look into it.
        pairs: evaluation sentences; the first few are probed.
        tokenizer: the joint tokenizer.
        label_smoothing: of the loss whose gradient is measured.
        plan: when to probe.
        closely: keep maps of every attention, not of the last cross-attention alone.
        report: takes each probe.

    Attributes:
        seconds: time spent so far, in ``report`` too.
        sentences: the sentences probed, (source, target).
    """

    def __init__(
        self,
        inside: Inside,
        pairs: TokenizedPairs,
        tokenizer: Tokenizer,
        label_smoothing: float,
        plan: ProbePlan,
        closely: bool,
        report: Report,
    ) -> None:
        self._inside, self._plan, self._label_smoothing = inside, plan, label_smoothing
        self._report = report
        indices = probe_pairs(pairs)
        self.sentences = [pairs.pairs[i][:2] for i in indices]
        self._batch = collate([pairs[i] for i in indices])
        kinds = (".q", ".k", ".v", ".weights", ".ffn.pre", ".ffn.act", ".embed", ".out")
        self._points = {
            name: point
            for name, point in inside.points.items()
            if name.endswith(kinds) and not name.endswith(("_attn.out", "ffn.out"))
        }
        attentions = [n.removesuffix(".weights") for n in self._points if n.endswith(".weights")]
        self._mapped = attentions if closely else attentions[-1:]
        self.seconds = 0.0
        self._first: dict[str, np.ndarray] = {}
        self._previous: dict[str, np.ndarray] = {}
        self._before: dict[str, Tensor] = {}
        self._records = Spread(MOST_RECORDS)  # lines for metrics.jsonl
        # "maps": attention's name -> those of the first sentences; "embeddings": (N, D).
        self._snapshots = Spread(MOST_MAPPED_STEPS)
        mapped = [pairs[i] for i in indices[:MAPPED_SENTENCES]]
        self._src_pieces = [tokenizer.pieces(src) for src, _ in mapped]
        self._tgt_pieces = [tokenizer.pieces(tgt) for _, tgt in mapped]
        ids = dict.fromkeys(i for pair in mapped for side in pair for i in side)
        self._token_ids = list(ids)[:MOST_TOKENS]
        self._tokens = tokenizer.pieces(self._token_ids)

    def before_step(self, model: nn.Module, step: int) -> None:
        """Remember the weights, if ``step``, about to be made, will be probed."""
        if self._plan.is_due(step):
            started = time.perf_counter()
            self._before = {name: p.detach().clone() for name, p in self._weights(model).items()}
            self.seconds += time.perf_counter() - started

    def after_step(self, model: nn.Module, step: int, epoch: int) -> None:
        """Probe the model if it is time to, and report.

        Args:
            model: in any mode.
            step: optimizer steps made; 0 before training.
            epoch: the one under way, from 1.
        """
        if self._plan.is_due(step):
            started = time.perf_counter()
            self._report(self.probe(model, step, epoch), self.history())
            self.seconds += time.perf_counter() - started

    def probe(self, model: nn.Module, step: int, epoch: int) -> dict[str, Any]:
        """Measure the model as it is after ``step``; its mode and gradients stay as they are.

        Returns:
            A line for ``metrics.jsonl``. Lists have one number for each head.

            ``loss``       of the probed sentences, nats per target token, labels smoothed.
            ``qkv``        of the vectors q, k and v of each attention: mean norm, mean and
                           standard deviation of their entries, mean cosine to the vectors before
                           training and to those of the previous probe, effective rank.
            ``attention``  entropy (nats), diagonality (0 to 1), mean similarity to the other heads.
            ``ffn``        mean and standard deviation before and after the activation, share of
                           values that are not above zero, share of units that no token activates.
            ``residual``   mean norm of the vectors between layers and of their loss gradient
                           (times the number of target tokens).
            ``weights``    of the weights of each site: norm, norm of the loss gradient, and how
                           large the step's update was, divided by their norm before it (None at
                           step 0).
        """
        weights = self._weights(model)
        captured, gradients, loss, weight_gradients = self._pass(model, weights)
        vectors = {
            name: captured.vectors(name)
            for name in captured.tensors
            if name.endswith((".q", ".k", ".v"))
        }
        first, previous = self._first or vectors, self._previous or vectors
        line = {
            "kind": "probe",
            "step": step,
            "epoch": epoch,
            "loss": loss,
            "qkv": {n: vector_numbers(v, first[n], previous[n]) for n, v in vectors.items()},
            "attention": {n: attention_numbers(captured, n) for n in captured.attentions()},
            "ffn": ffn_numbers(captured),
            "residual": {
                name: {
                    "norm": float(analysis.mean_norm(captured.vectors(name))[0]),
                    "gradient_norm": float(analysis.mean_norm(gradients.vectors(name))[0]),
                }
                for name in captured.tensors
                if name.endswith((".embed", ".out"))
            },
            "weights": weight_numbers(weights, weight_gradients, self._before),
        }
        self._first, self._previous, self._before = first, vectors, {}
        self._remember(step, line, captured, weights)
        return line

    def history(self) -> History:
        """What has been followed so far."""
        snapshots = self._snapshots.entries
        return History(
            records=list(self._records.entries.values()),
            maps={step: kept["maps"] for step, kept in snapshots.items()},
            embeddings={step: kept["embeddings"] for step, kept in snapshots.items()},
            tokens=self._tokens,
            src_pieces=self._src_pieces,
            tgt_pieces=self._tgt_pieces,
            sentences=self.sentences,
        )

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs: tensors and plain values."""
        return {
            "seconds": self.seconds,
            "first": _as_tensors(self._first),
            "previous": _as_tensors(self._previous),
            "records": self._records.state_dict(),
            "snapshots": _as_tensors(self._snapshots.state_dict()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up where `state_dict` was called."""
        self.seconds = state["seconds"]
        self._first, self._previous = _as_arrays(state["first"]), _as_arrays(state["previous"])
        self._records.load_state_dict(state["records"])
        self._snapshots.load_state_dict(_as_arrays(state["snapshots"]))

    def _weights(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Trained weights by their common names."""
        named = {self._inside.common_name(n): p for n, p in model.named_parameters()}
        return {n: p for n, p in named.items() if n is not None and p.requires_grad}

    def _pass(
        self, model: nn.Module, weights: Mapping[str, nn.Parameter]
    ) -> tuple[Captured, Captured, float, dict[str, Tensor]]:
        """One pass forward and back: tensors, their gradients, loss, gradients of the weights."""
        was_training = model.training
        model.eval()
        batch = self._batch.to(next(model.parameters()).device)
        gradients: dict[str, Tensor] = {}
        try:
            with torch.enable_grad(), self._inside.explicit_attention(model):
                with capture(model, self._points, gradients) as found:
                    logits = self._inside.logits_of(model, batch.src_ids, batch.decoder_input_ids)
                    loss = smoothed_loss_sum(logits, batch.labels, self._label_smoothing)
                    # Not backward(): the gradients of training stay as they are.
                    of_weights = torch.autograd.grad(
                        loss / batch.num_target_tokens, list(weights.values())
                    )
        finally:
            model.train(was_training)
        number = batch.num_target_tokens  # gradients of the loss's sum do not shrink with it
        return (
            self._captured(found),
            self._captured({name: gradient * number for name, gradient in gradients.items()}),
            loss.item() / number,
            dict(zip(weights, of_weights, strict=True)),
        )

    def _captured(self, tensors: Mapping[str, Tensor]) -> Captured:
        return Captured(
            tensors={name: tensor.float().numpy() for name, tensor in tensors.items()},
            src_is_real=(self._batch.src_ids != PAD_ID).numpy(),
            tgt_is_real=(self._batch.labels != IGNORED_LABEL).numpy(),
        )

    def _remember(
        self,
        step: int,
        line: dict[str, Any],
        captured: Captured,
        weights: Mapping[str, nn.Parameter],
    ) -> None:
        """Keep what figures are drawn from; memory stays bounded however long the run."""
        self._records.add(step, line)
        maps = {
            name: [captured.map_of(name, i).copy() for i in range(len(self._src_pieces))]
            for name in self._mapped
        }
        rows = weights["embedding.weight"].detach()[self._token_ids]
        self._snapshots.add(step, {"maps": maps, "embeddings": rows.float().cpu().numpy()})


def _as_tensors(value: Any) -> Any:
    """``value`` with a tensor for every array in it, as checkpoints hold them."""
    return _converted(value, np.ndarray, torch.from_numpy)


def _as_arrays(value: Any) -> Any:
    """The reverse of `_as_tensors`."""
    return _converted(value, Tensor, lambda tensor: tensor.cpu().numpy())


def _converted(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """``value`` with ``change`` done to all of one kind in it, in dictionaries and lists too."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, dict):
        return {key: _converted(entry, kind, change) for key, entry in value.items()}
    if isinstance(value, list):
        return [_converted(entry, kind, change) for entry in value]
    return value
