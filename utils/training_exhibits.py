"""The figures of what was followed while a model was trained, with two sentences on each."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from utils import representation_figures, tracking_figures
from utils.exhibits import table_record
from utils.figure_writer import Exhibit
from utils.history import History
from utils.representations import Trajectories, training_trajectories
from utils.timelines import timeline


def of_training(history: History) -> Iterator[Exhibit]:
    """All figures of what was followed while a model was trained."""
    last = history.records[-1]["step"]
    title = "While the model was trained"
    entropy = timeline(history.records, "attention", "entropy").values
    turned = timeline(history.records, "qkv", "cosine_to_first").values[:, -1]
    zero = timeline(history.records, "ffn", "zero_share").values.mean(axis=0)
    captions = {
        "qkv_evolution": (
            f"Length, direction and effective rank of Q, K and V over {last:,} steps. At the end "
            f"their cosine to the start is {turned.mean():.2f} on average."
        ),
        "attention_evolution": (
            "Cross-attention of the last decoder layer on one sentence, head by head, from the "
            f"first step to the last. Its entropy goes from {entropy[-1, 0]:.2f} to "
            f"{entropy[-1, -1]:.2f} nats."
        ),
        "attention_numbers": (
            "Entropy, diagonality and likeness of the heads over training. Over all attentions the "
            f"entropy goes from {entropy[:, 0].mean():.2f} to {entropy[:, -1].mean():.2f} nats."
        ),
        "gradient_flow": (
            "How the gradient of the loss reaches every layer and kind of weight, and how much of "
            f"a weight one step changes. {_updates(history)}"
        ),
        "layers_evolution": (
            "Feed-forward activations and the length of the residual stream over training. "
            f"{zero[0]:.0%} of the activations are zero at the start, {zero[-1]:.0%} at the end."
        ),
    }
    for name, (draw, _) in tracking_figures.TRAINING_FIGURES.items():
        yield Exhibit(
            name=f"training/{name}",
            caption=captions[name],
            draw=partial(draw, history, title),
            record=tracking_figures.over_steps(name, history),
        )
    if (moved := trajectories_of(history)) is not None:
        yield Exhibit(
            name="training/embeddings",
            caption=(
                f"Where training took the embeddings of {len(moved.tokens)} tokens, from "
                f"{moved.steps[0]} to {moved.steps[-1]}. The plane holds {moved.shares.sum():.0%} "
                "of all variance."
            ),
            draw=partial(representation_figures.training_trajectories, moved),
            record=table_record("embeddings over training (PCA)", "component 1", "component 2"),
        )


def _updates(history: History) -> str:
    """How large the updates were, in a sentence."""
    ratios = timeline(history.records, "weights", "update_ratio").values
    known = ~np.isnan(ratios).any(axis=0)
    if not known.any():
        return "No step was followed yet."
    means, steps = ratios[:, known].mean(axis=0), np.array([r["step"] for r in history.records])
    peak = int(means.argmax())
    return (
        f"On average a step changes a weight by {means[peak]:.1e} of its size at step "
        f"{steps[known][peak]:,}, and by {means[-1]:.1e} at the end."
    )


def trajectories_of(history: History) -> Trajectories | None:
    """Where training took some embeddings; None if it was looked at once only."""
    if len(history.embeddings) < 2:
        return None
    return training_trajectories(history.embeddings, history.tokens)
