"""The figures of what was followed while a model was trained, with two sentences on each."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from utils import tracking_figures, trajectory_figures
from utils.exhibits import table_record
from utils.figure_writer import Exhibit
from utils.history import History
from utils.language import Message, message, text
from utils.names import state_name
from utils.representations import Trajectories, training_trajectories
from utils.timelines import timeline


def of_training(history: History) -> Iterator[Exhibit]:
    """All figures of what was followed while a model was trained."""
    last = history.records[-1]["step"]
    title = text("figure.training")
    entropy = timeline(history.records, "attention", "entropy").values
    turned = timeline(history.records, "qkv", "cosine_to_first").values[:, -1]
    zero = timeline(history.records, "ffn", "zero_share").values.mean(axis=0)
    captions = {
        "qkv_evolution": message(
            "caption.training.qkv_evolution", steps=f"{last:,}", cosine=f"{turned.mean():.2f}"
        ),
        "attention_evolution": message(
            "caption.training.attention_evolution",
            before=f"{entropy[-1, 0]:.2f}",
            after=f"{entropy[-1, -1]:.2f}",
        ),
        "attention_numbers": message(
            "caption.training.attention_numbers",
            before=f"{entropy[:, 0].mean():.2f}",
            after=f"{entropy[:, -1].mean():.2f}",
        ),
        "gradient_flow": message("caption.training.gradient_flow", updates=_updates(history)),
        "layers_evolution": message(
            "caption.training.layers_evolution", before=f"{zero[0]:.0%}", after=f"{zero[-1]:.0%}"
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
            caption=message(
                "caption.training.embeddings",
                tokens=str(len(moved.tokens)),
                first=state_name(moved.steps[0]),
                last=state_name(moved.steps[-1]),
                share=f"{moved.shares.sum():.0%}",
            ),
            draw=partial(trajectory_figures.training_trajectories, moved),
            record=table_record("embeddings over training (PCA)", "component 1", "component 2"),
        )


def _updates(history: History) -> Message:
    """How large the updates were, in a sentence."""
    ratios = timeline(history.records, "weights", "update_ratio").values
    known = ~np.isnan(ratios).any(axis=0)
    if not known.any():
        return message("caption.training.gradient_flow.none")
    means, steps = ratios[:, known].mean(axis=0), np.array([r["step"] for r in history.records])
    peak = int(means.argmax())
    return message(
        "caption.training.gradient_flow.updates",
        most=f"{means[peak]:.1e}",
        step=f"{steps[known][peak]:,}",
        last=f"{means[-1]:.1e}",
    )


def trajectories_of(history: History) -> Trajectories | None:
    """Where training took some embeddings; None if it was looked at once only."""
    if len(history.embeddings) < 2:
        return None
    return training_trajectories(history.embeddings, history.tokens)
