"""Where attention goes: statistics of each head, and what flows through all layers together.

Letters used in shapes: B sentences, H heads, Q/K query/key positions, S source positions,
T target positions, D width of the model, E width of a head.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from utils.analysis import (
    TINY,
    Captured,
    Labelled,
    attention_label,
    effective_rank,
    mean_norm,
    padded,
    statistics_of_heads,
)

VECTORS = ("Q", "K", "V")
# Rows of weights must sum to 1 this closely; far above rounding, far below a token's share.
ROW_SUM_TOLERANCE = 1e-2


def attention_statistics(captured: Captured) -> dict[str, Labelled]:
    """How wide, how straight and how alike the heads of every attention look.

    Returns:
        "entropy", "diagonality" and "similarity" as `utils.analysis.statistics_of_heads` has them.
        Axes: "attention" and "head", NaN where an attention has fewer heads than another, or none
        to be similar to.

    Raises:
        ValueError: no attention weights were captured.
    """
    names = captured.attentions()
    found = [statistics_of_heads(captured, name) for name in names]
    return {
        key: _by_head(names, [statistics[key] for statistics in found], name, unit)
        for key, name, unit in (
            ("entropy", "entropy", "nats"),
            ("diagonality", "diagonality", "0 to 1"),
            ("similarity", "similarity to other heads", "cosine"),
        )
    }


def _by_head(names: Sequence[str], rows: Sequence[np.ndarray], name: str, unit: str) -> Labelled:
    """One number for each attention and head.

    Args:
        names: the attentions, canonical.
        rows: (H,) of each attention.
        name: of the statistic.
        unit: of the statistic.

    Raises:
        ValueError: there is no attention.
    """
    if not names:
        raise ValueError(f"{name}: nothing of any attention was captured")
    values = padded(rows)
    heads = [str(head + 1) for head in range(values.shape[1])]
    axes = {"attention": [attention_label(n) for n in names], "head": heads}
    return Labelled(values=values, name=name, unit=unit, axes=axes)


def qkv_by_layer(captured: Captured) -> dict[str, Labelled]:
    """How large the queries, keys and values of each head are, and how many directions they use.

    Returns:
        "norm", the mean length of a token's vector; "std", the standard deviation of all its
        entries over tokens and features; "effective_rank", in dimensions, at most the width of a
        head and at most the number of tokens. Axes: "vector" (Q, K, V), "attention", "head".

    Raises:
        ValueError: no q, k and v were captured.
    """
    names = [n.removesuffix(".q") for n in captured.tensors if n.endswith("_attn.q")]
    widest = max((captured.tensors[f"{name}.q"].shape[-1] for name in names), default=0)
    found: dict[str, list[Labelled]] = {"norm": [], "std": [], "effective_rank": []}
    for vector in VECTORS:
        vectors = [captured.vectors(f"{name}.{vector.lower()}") for name in names]
        for key, name, unit, statistic in (
            ("norm", "mean norm", "L2 norm", mean_norm),
            ("std", "standard deviation of the entries", "feature value", _entry_std),
            ("effective_rank", f"effective rank, at most {widest}", "dimensions", effective_rank),
        ):
            rows = [statistic(of_heads) for of_heads in vectors]
            found[key].append(_by_head(names, rows, name, unit))
    return {
        key: Labelled(
            values=np.stack([part.values for part in parts]),
            name=parts[0].name,
            unit=parts[0].unit,
            axes={"vector": VECTORS, **parts[0].axes},
        )
        for key, parts in found.items()
    }


def _entry_std(vectors: np.ndarray) -> np.ndarray:
    """Standard deviation of all entries of each head's vectors (H, N, E); returns (H,)."""
    return vectors.std(axis=(1, 2))


def rollout(
    captured: Captured,
    sentence: int,
    src_pieces: Sequence[str],
    input_pieces: Sequence[str],
    tgt_pieces: Sequence[str],
) -> tuple[Labelled, Labelled]:
    """How much of each input token reaches each position of the last layer.

    Attention rollout (Abnar and Zuidema 2020, section 3) multiplies the attention of all layers.
    Every sublayer is taken to hand on half of its residual and half of what it attends to, heads
    averaged, and feed-forward networks to hand on what they get:

        encoder:          R <- R / 2 + A R / 2                 starting from the identity
        decoder, self:    X <- X / 2 + A X / 2                 from nothing of the source, and
        decoder, cross:   X <- X / 2 + A [R_encoder, 0] / 2    the identity of the decoder inputs

    The decoder's part is an extension to two inputs. The halves are an assumption, and values,
    LayerNorm and feed-forward networks are ignored. Because of the halves the source's share in
    the decoder is 1 - 2^-layers whatever the model does: only how it spreads over the source
    tokens, and the rest over the decoder inputs, tells anything.

    Args:
        captured: the weights of every layer; padding is left out here.
        sentence: which one of the batch.
        src_pieces: its S real source tokens, </s> included.
        input_pieces: its T decoder inputs, the start token first.
        tgt_pieces: the T tokens that they predict.

    Returns:
        The encoder's (S, S) and the decoder's (T, S + T), columns being the source tokens and then
        the decoder inputs. Rows sum to 1.

    Raises:
        ValueError: a layer was not captured, weights lie on padding, or pieces do not fit.
    """
    num_src = int(captured.src_is_real[sentence].sum())
    num_tgt = int(captured.tgt_is_real[sentence].sum())
    encoder = np.eye(num_src)
    for layer in range(_num_layers(captured, "encoder")):
        encoder = _half_attended(captured, f"encoder.{layer}.self_attn", sentence, encoder, encoder)
    memory = np.hstack([encoder, np.zeros((num_src, num_tgt))])
    decoder = np.hstack([np.zeros((num_tgt, num_src)), np.eye(num_tgt)])
    for layer in range(_num_layers(captured, "decoder")):
        decoder = _half_attended(captured, f"decoder.{layer}.self_attn", sentence, decoder, decoder)
        decoder = _half_attended(captured, f"decoder.{layer}.cross_attn", sentence, decoder, memory)
    return (
        Labelled(
            values=encoder,
            name="attention rollout of the encoder",
            unit="share of the position",
            axes={"position in the last encoder layer": src_pieces, "source token": src_pieces},
        ),
        Labelled(
            values=decoder,
            name="attention rollout of the decoder",
            unit="share of the position",
            axes={
                "target token that the query predicts": tgt_pieces,
                "source token, then decoder input": [*src_pieces, *input_pieces],
            },
        ),
    )


def _num_layers(captured: Captured, stack: str) -> int:
    """How many layers of a stack were captured; 0 would make a rollout of nothing.

    Raises:
        ValueError: none.
    """
    layers = {name.split(".")[1] for name in captured.attentions() if name.startswith(stack)}
    if not layers:
        raise ValueError(f"rollout: no attention weights of the {stack} were captured")
    return len(layers)


def _half_attended(
    captured: Captured, name: str, sentence: int, residual: np.ndarray, read: np.ndarray
) -> np.ndarray:
    """Half of the ``residual`` (Q, inputs), half of what the attention reads from (K, inputs)."""
    return residual / 2 + _mean_map(captured, name, sentence) @ read / 2


def _mean_map(captured: Captured, name: str, sentence: int) -> np.ndarray:
    """One sentence's weights without padding, heads averaged, (Q, K).

    Raises:
        ValueError: not captured, or some weight lies on padding.
    """
    if name not in captured.attentions():
        raise ValueError(f"rollout: the weights of {name} were not captured")
    weights = captured.map_of(name, sentence).mean(axis=0, dtype=np.float64)
    sums = weights.sum(axis=1, keepdims=True)
    if np.abs(sums - 1).max() > ROW_SUM_TOLERANCE:
        raise ValueError(
            f"{name}: weights on real tokens sum to {sums.min():.3f} in some row, not to 1; "
            "the rest lies on padding"
        )
    return weights / sums


def value_weighted(weights: np.ndarray, values: np.ndarray, w_o: np.ndarray) -> np.ndarray:
    """What each key really contributes: norm-based analysis (Kobayashi et al. 2020, section 3).

        || a_qk v_k W_O^h ||,   rows normalised to sum 1

    A head may look at a token whose value is nearly zero, and then takes nothing from it.

    Args:
        weights: (B, H, Q, K).
        values: (B, H, K, E), as captured, bias included.
        w_o: (D, H * E) output projection as torch stores it, (out, in); its input features are
            grouped head by head.

    Returns:
        (B, H, Q, K); a row in which nothing is contributed stays 0.

    Raises:
        ValueError: the output projection does not take the values of so many heads.
    """
    num_heads, d_head = values.shape[1], values.shape[3]
    if w_o.shape[1] != num_heads * d_head:
        raise ValueError(f"w_o takes {w_o.shape[1]} features, not {num_heads} heads of {d_head}")
    by_head = w_o.reshape(len(w_o), num_heads, d_head)
    lengths = np.linalg.norm(np.einsum("bhke,dhe->bhkd", values, by_head), axis=-1)  # (B, H, K)
    contributed = weights * lengths[:, :, None, :]
    return contributed / np.maximum(contributed.sum(axis=-1, keepdims=True), TINY)


def overlap(one: np.ndarray, two: np.ndarray, is_real: np.ndarray) -> np.ndarray:
    """Share of attention that two maps put on the same keys, the mean over real queries.

        sum_k min(p_k, r_k)  =  1 - total variation distance

    A rank correlation would mostly compare the many keys that get next to nothing, and a cosine
    mostly the one key that gets the most; here each key counts as much as it gets. 0.9 reads: to
    make one map the other, 10 % of the attention must move.

    Args:
        one: (B, H, Q, K), rows sum to 1.
        two: the same shape.
        is_real: (B, Q), False at padded queries.

    Returns:
        (H,): from 0, no key in common, to 1, the same map.
    """
    shared = np.minimum(one, two).sum(axis=-1)  # (B, H, Q)
    return shared.transpose(1, 0, 2)[:, is_real].mean(axis=-1)


def value_weighting(captured: Captured, output_projections: Mapping[str, np.ndarray]) -> Labelled:
    """How far plain attention maps agree with what the heads really take: `overlap` with both.

    Args:
        captured: weights and values of every attention.
        output_projections: attention, canonical -> its W_O as `value_weighted` takes it.

    Returns:
        Axes "attention" and "head".

    Raises:
        ValueError: no attention weights were captured.
    """
    names = captured.attentions()
    rows = []
    for name in names:
        weights = captured.tensors[f"{name}.weights"]
        values = captured.tensors[f"{name}.v"]
        weighted = value_weighted(weights, values, output_projections[name])
        rows.append(overlap(weights, weighted, captured.rows_are_real(f"{name}.weights")))
    return _by_head(names, rows, "overlap with value-weighted attention", "0 to 1")
