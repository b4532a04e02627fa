"""What both versions optimise, and how: loss, optimizer and learning rate (section 5).

Defined once, so that the two implementations run the same experiment.

Letters used in shapes: B sentences, T target positions, V vocabulary entries.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.config import TrainConfig

IGNORED_LABEL = -100  # a label that counts nowhere: padding

PAPER_WARMUP_STEPS = 4000
SAFE_WARMUP_STEPS = 2000  # the peak rate is never that of a shorter warm-up
DEFAULT_EPOCHS = 10


def smoothed_loss_sum(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Cross-entropy with label smoothing (section 5.4), summed over real target tokens.

        -sum_t sum_v q(v) log p(v),   q = (1 - eps) onehot(label) + eps / V

    The mass eps is spread over all V classes, the right one among them: torch's and MarianMT's
    definition. (The paper cites Szegedy et al. 2015, who do the same.) The constant entropy of q
    is included, so the loss of a perfect model is above 0.

    Args:
        logits: (B, T, V).
        labels: (B, T); positions holding `IGNORED_LABEL` count nothing.
        label_smoothing: eps in [0, 1).

    Returns:
        A scalar in nats. Divide by the number of real target tokens, over all batches of one
        optimizer step, to weigh every token equally.
    """
    return F.cross_entropy(
        at_least_float32(logits).flatten(0, 1),
        labels.flatten(),
        ignore_index=IGNORED_LABEL,
        label_smoothing=label_smoothing,
        reduction="sum",
    )


def at_least_float32(logits: Tensor) -> Tensor:
    """Half precision widened, for sums over a vocabulary; float32 and float64 as they are."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def learning_rate(step: int, peak: float, warmup_steps: int) -> float:
    """The paper's schedule (section 5.3, equation 3), written with its peak.

        lr = peak * min(step / warmup, sqrt(warmup / step))

    With peak = (d_model * warmup)^-0.5 this is equation 3 to the letter.

    Args:
        step: the optimizer step about to be made, from 1.
        peak: highest rate, reached at step ``warmup_steps``.
        warmup_steps: steps of linear increase, at least 1.
    """
    step = max(step, 1)
    return peak * min(step / warmup_steps, math.sqrt(warmup_steps / step))


def paper_peak(d_model: int, warmup_steps: int) -> float:
    """Peak of equation 3: (d_model * warmup_steps)^-0.5."""
    return (d_model * warmup_steps) ** -0.5


def with_schedule(config: TrainConfig, d_model: int, steps_per_epoch: int) -> TrainConfig:
    """Fill in the epochs, learning rate and warm-up that the user left open.

    Warm-up: a twentieth of the run, but 100 steps at least (a third of the run if that is less)
    and the paper's 4,000 at most. Peak: equation 3's for this width and warm-up, but no
    higher than with 2,000 steps. Shorter warm-ups would peak far higher (1e-2 at width 64 and 150
    steps), and from there post-norm models settle on a plateau where the decoder never learns to
    look at the source.

    Args:
        config: training options.
        d_model: width of the model.
        steps_per_epoch: optimizer steps of one pass over the training pairs.
    """
    epochs = config.epochs
    if epochs is None:
        epochs = DEFAULT_EPOCHS
        if config.max_steps is not None:
            epochs = math.ceil(config.max_steps / steps_per_epoch)
    warmup_steps = config.warmup_steps
    if warmup_steps is None:
        num_steps = min(epochs * steps_per_epoch, config.max_steps or math.inf)
        warmup_steps = max(num_steps // 20, min(100, num_steps // 3), 1)
        warmup_steps = min(warmup_steps, PAPER_WARMUP_STEPS)
    rate = config.learning_rate
    if rate is None:
        rate = paper_peak(d_model, max(warmup_steps, SAFE_WARMUP_STEPS))
    return dataclasses.replace(config, epochs=epochs, learning_rate=rate, warmup_steps=warmup_steps)


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Adam:
    """Adam as in section 5.3: beta1 0.9, beta2 0.98, epsilon 1e-9.

    Args:
        model: whose parameters are trained.
        config: with the learning rate filled in by `with_schedule`.
    """
    return torch.optim.Adam(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), eps=1e-9, fused=True
    )


def skip_if_not_finite(optimizer: torch.optim.Adam, grad_norm: Tensor) -> None:
    """Let the optimizer's next step change nothing if its gradient is not finite.

    Decided on the device, so that a GPU need not be waited for. The learning rate goes on.

    Args:
        optimizer: made by `make_optimizer`.
        grad_norm: of all gradients together.
    """
    # What torch's GradScaler tells a fused optimizer, which leaves weights and moments alone.
    optimizer.found_inf = (~grad_norm.isfinite()).float()


def make_schedule(
    optimizer: torch.optim.Optimizer, config: TrainConfig
) -> torch.optim.lr_scheduler.LambdaLR:
    """`learning_rate` as a scheduler to be stepped once after every optimizer step."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda done: learning_rate(done + 1, 1.0, config.warmup_steps)
    )
