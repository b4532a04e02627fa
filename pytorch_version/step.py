"""One optimizer step (section 5): forward pass, loss, backward pass, Adam, learning rate."""

import contextlib
import math
from typing import Any

import torch
from torch import nn

from pytorch_version.state import TrainingState
from utils import collectives, distributed
from utils.batching import Batch
from utils.config import TrainConfig
from utils.objective import skip_if_not_finite, smoothed_loss_sum


def train_step(
    state: TrainingState, forward: nn.Module, batches: list[Batch], config: TrainConfig
) -> dict[str, Any]:
    """Make one optimizer step on the mean loss over all target tokens of ``batches``.

    Several processes make it together, each on its own batches: one step on the mean over all.
    A step whose gradient is not finite leaves the weights alone.

    Args:
        state: changed in place.
        forward: the model of ``state``, or its compiled or data-parallel form.
        batches: one, or several whose gradients are accumulated; every token weighs the same.
        config: training options.

    Returns:
        The step's line for ``metrics.jsonl``. ``loss`` and ``grad_norm`` are still tensors, so
        that a GPU need not be waited for.
    """
    device, progress = state.model.device, state.progress
    state.model.train()
    num_target_tokens, num_tokens = collectives.total(
        sum(batch.num_target_tokens for batch in batches),
        sum(batch.num_tokens for batch in batches),
    )
    loss_sum = 0.0
    for number, batch in enumerate(batches, start=1):
        batch = batch.to(device)
        with collectives.gradients_kept(forward, is_last=number == len(batches)):
            with autocast(device, config.precision):
                logits = forward(batch.src_ids, batch.decoder_input_ids)
            loss = smoothed_loss_sum(logits, batch.labels, config.label_smoothing)
            # The processes' gradients are averaged; times their number it is the sum again.
            share = loss / num_target_tokens * distributed.world_size()
            state.scaler.scale(share).backward()
        loss_sum = loss_sum + loss.detach()
    state.scaler.unscale_(state.optimizer)
    grad_norm = nn.utils.clip_grad_norm_(state.model.parameters(), config.max_grad_norm or math.inf)
    rate = state.schedule.get_last_lr()[0]
    skip_if_not_finite(state.optimizer, grad_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.schedule.step()
    state.optimizer.zero_grad()

    progress.step += 1
    progress.batches += len(batches)
    progress.tokens += num_tokens
    return {
        "kind": "train",
        "step": progress.step,
        "epoch": progress.epoch + 1,
        "loss": collectives.add_up(loss_sum) / num_target_tokens,
        "lr": rate,
        "grad_norm": grad_norm,
        "tokens": num_tokens,
    }


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Run a forward pass in "fp32", "bf16" or "fp16" where that is safe."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)
