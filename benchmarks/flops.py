"""How many floating-point operations a training step needs, and what share of a GPU's that is."""

import numpy as np

from utils.config import ModelConfig, UserError

# Dense tensor-core peak in TFLOP/s by the makers' data sheets (SXM cards); without sparsity.
PEAKS = {
    "H100": {"bf16": 989.4, "fp32": 66.9},
    "H200": {"bf16": 989.4, "fp32": 66.9},
    "A100": {"bf16": 312.0, "fp32": 19.5},
}


def peak_flops(name: str | None, precision: str) -> float | None:
    """FLOP/s that a device reaches at most; None if ``name`` is.

    Args:
        name: a card of `PEAKS`, or a number in TFLOP/s.
        precision: "fp32" (without TF32), "bf16" or "fp16".

    Raises:
        UserError: it is neither.
    """
    if name is None:
        return None
    if name.upper() in PEAKS:
        return 1e12 * PEAKS[name.upper()]["fp32" if precision == "fp32" else "bf16"]
    try:
        tflops = float(name)
    except ValueError:
        tflops = -1.0
    if not tflops > 0:
        raise UserError(
            f"--peak {name}: give one of {', '.join(PEAKS)}, or a number above 0 in TFLOP/s"
        )
    return 1e12 * tflops


def training_flops(config: ModelConfig, vocab_size: int, lengths: np.ndarray) -> float:
    """Operations of forward and backward pass on some sentence pairs, padding left out.

    A product with a matrix of P weights takes 2 P operations a token forward and 4 P backward.
    Attention's two products take as much for every pair of positions as D weights each; what a
    causal mask hides is counted, as is usual. Everything that is no matrix product is left out.

    Args:
        config: shape of the model.
        vocab_size: V.
        lengths: (N, 2) tokens of source and target.
    """
    d, f = config.d_model, config.d_ff
    src, tgt = lengths.sum(axis=0, dtype=np.float64)
    pairs_src, pairs_cross, pairs_tgt = (
        (lengths[:, a].astype(np.float64) * lengths[:, b]).sum()
        for a, b in ((0, 0), (1, 0), (1, 1))
    )
    # Weights times the tokens they are applied to; the decoder's W_K and W_V also read the source.
    encoder = (4 * d * d + 2 * d * f) * src
    decoder = (4 * d * d + 2 * d * d + 2 * d * f) * tgt + 2 * d * d * src
    attention = 2 * d * (pairs_src + pairs_cross + pairs_tgt)
    layers = config.num_layers * (encoder + decoder + attention)
    return 6.0 * (layers + vocab_size * d * tgt)
