"""Translating: greedy and beam search, one new position at a time.

Keys and values of earlier positions are kept, so each step computes one position only, and
sentences leave the batch when they are done. Results are those of transformers' ``generate`` with
the same settings (``do_sample=False``, ``early_stopping=False``).

Letters used in shapes: B sentences, R rows of the decoder's batch (sentences times beams),
N beams of a sentence, H heads, S source positions, T target positions so far, E width of a head,
D width of the model, V vocabulary entries.
"""

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pytorch_version.attention import MultiHeadAttention
from pytorch_version.layers import DecoderLayer
from pytorch_version.model import Transformer, explicit_attention
from utils.decoding import Decoding, translate_in_batches, until_end
from utils.tokenizer import BOS_ID, EOS_ID, NEVER_GENERATED, PAD_ID, Tokenizer

IMPOSSIBLE = -1e9  # score of what cannot win; as in transformers' beam search
ENCODED_AT_ONCE = 64  # sentences; the fewer, the less padding is computed


def translate(
    model: Transformer, tokenizer: Tokenizer, sentences: Sequence[str], decoding: Decoding
) -> list[str]:
    """Translate ``sentences``, in batches of similar length; the order is kept."""

    def search(src_ids: Tensor) -> list[list[int]]:
        return generate(model, src_ids.to(model.device), decoding)

    return translate_in_batches(search, tokenizer, sentences, decoding.beam_size)


@torch.inference_mode()
def generate(model: Transformer, src_ids: Tensor, decoding: Decoding) -> list[list[int]]:
    """Translate source tokens (B, S); returns each target's tokens, without <s> and </s>.

    Raises:
        ValueError: the model is in training mode, where dropout would disturb the search.
    """
    if model.training:
        raise ValueError("generate needs model.eval()")
    # With one query a sentence the CPU's fused kernel takes longer than the plain formula.
    on_cpu = model.device.type == "cpu"
    with explicit_attention(model) if on_cpu else contextlib.nullcontext():
        if decoding.beam_size == 1:
            return greedy_search(model, src_ids, decoding.max_length)
        return beam_search(model, src_ids, decoding)


def greedy_search(model: Transformer, src_ids: Tensor, max_length: int) -> list[list[int]]:
    """Take the most probable token at every position.

    Args:
        model: in eval mode.
        src_ids: (B, S).
        max_length: most tokens generated, </s> included.

    Returns:
        One list of token ids for each source, without <s> and </s>.
    """
    found: list[list[int]] = [[] for _ in src_ids]
    unfinished = list(range(len(src_ids)))  # which sentence each row of the batch is
    cache = DecoderCache(model, src_ids)
    tokens = src_ids.new_full((len(src_ids),), BOS_ID)
    for _ in range(max_length):
        tokens = _without_never_generated(next_logits(model, tokens, cache)).argmax(dim=-1)
        going_on = []
        for row, token in enumerate(tokens.tolist()):
            if token != EOS_ID:
                found[unfinished[row]].append(token)
                going_on.append(row)
        if not going_on:
            break
        if len(going_on) < len(tokens):  # the finished rows leave, so they cost nothing more
            rows = torch.tensor(going_on, device=tokens.device)
            unfinished = [unfinished[row] for row in going_on]
            tokens = tokens[rows]
            cache.select_rows(rows)
            cache.select_sentences(rows)
    return found


def beam_search(model: Transformer, src_ids: Tensor, decoding: Decoding) -> list[list[int]]:
    """Follow the N best partial translations of every sentence.

    Each step scores all continuations of the N beams and looks at the 2 N best. Those that end
    in </s> and rank among the first N are finished translations; the N best others go on. A
    sentence is done when it holds N finished translations and the best running beam, divided by
    its length so far ** length_penalty, cannot beat the worst of them.

    Args:
        model: in eval mode.
        src_ids: (B, S).
        decoding: settings, ``beam_size`` at least 2.

    Returns:
        The best translation of each source, without <s> and </s>.
    """
    num_beams, penalty = decoding.beam_size, decoding.length_penalty
    found: list[list[int]] = [[] for _ in src_ids]
    searching = list(range(len(src_ids)))  # which sentence each part of the batch is
    cache = DecoderCache(model, src_ids)
    cache.select_rows(
        torch.arange(len(src_ids), device=src_ids.device).repeat_interleave(num_beams)
    )
    running = _Beams.start(len(src_ids), num_beams, src_ids.device)
    finished = _Beams.none(len(src_ids), num_beams, src_ids.device)
    tokens = src_ids.new_full((len(src_ids) * num_beams,), BOS_ID)

    for length in range(1, decoding.max_length + 1):
        log_probs = next_logits(model, tokens, cache).float().log_softmax(dim=-1)
        log_probs = _without_never_generated(log_probs)  # after the softmax, as generate does
        best, origin = _continuations(running, log_probs, keep=2 * num_beams)
        ended = (best.last_token() == EOS_ID) | (length == decoding.max_length)

        rank = torch.arange(2 * num_beams, device=src_ids.device)
        counts = ended & (rank < num_beams)
        ending = _Beams(best.ids, best.scores / length**penalty + IMPOSSIBLE * ~counts, counts)
        finished = finished.joined_with(ending).top(num_beams)[0]

        running, chosen = best.with_scores(best.scores + IMPOSSIBLE * ended).top(num_beams)
        origin = origin.gather(1, chosen)  # (B, N): the beam each running one goes on from

        hope = running.scores[:, 0] / length**penalty
        worst = finished.scores.min(dim=1).values
        done = finished.ended.all(dim=1) & (hope <= worst)
        done |= length == decoding.max_length
        for row in done.nonzero().flatten().tolist():
            found[searching[row]] = until_end(finished.ids[row, 0].tolist())
        staying = (~done).nonzero().flatten()
        if not len(staying):
            break
        rows = (staying[:, None] * num_beams + origin[staying]).flatten()
        cache.select_rows(rows)
        if len(staying) < len(searching):
            cache.select_sentences(staying)
            searching = [searching[row] for row in staying.tolist()]
            running, finished = running.sentences(staying), finished.sentences(staying)
        tokens = running.last_token().flatten()
    return found


class _Beams(NamedTuple):
    """Partial or finished translations of B sentences, N each, the best first.

    Attributes:
        ids: (B, N, T) tokens, <pad> after the end of shorter ones.
        scores: (B, N) sums of log-probabilities, length-penalised when finished.
        ended: (B, N) True for a finished translation, False for a running or missing one.
    """

    ids: Tensor
    scores: Tensor
    ended: Tensor

    @classmethod
    def start(cls, num_sentences: int, num_beams: int, device: torch.device) -> "_Beams":
        """N empty beams a sentence; all but the first cannot win, since they are the same."""
        beams = cls.none(num_sentences, num_beams, device)
        beams.scores[:, 0] = 0
        return beams

    @classmethod
    def none(cls, num_sentences: int, num_beams: int, device: torch.device) -> "_Beams":
        """Places for N translations a sentence, none filled yet."""
        shape = (num_sentences, num_beams)
        return cls(
            torch.empty(*shape, 0, dtype=torch.long, device=device),
            torch.full(shape, IMPOSSIBLE, device=device),
            torch.zeros(shape, dtype=torch.bool, device=device),
        )

    def last_token(self) -> Tensor:
        return self.ids[:, :, -1]

    def with_scores(self, scores: Tensor) -> "_Beams":
        return self._replace(scores=scores)

    def sentences(self, rows: Tensor) -> "_Beams":
        return _Beams(*(tensor[rows] for tensor in self))

    def top(self, count: int) -> tuple["_Beams", Tensor]:
        """The ``count`` best of each sentence, and their places (B, count) in this one."""
        scores, places = self.scores.topk(count, dim=1)
        ids = self.ids.gather(1, places[:, :, None].expand(-1, -1, self.ids.size(2)))
        return _Beams(ids, scores, self.ended.gather(1, places)), places

    def joined_with(self, longer: "_Beams") -> "_Beams":
        """Both sets side by side; ``longer`` has at least as many tokens."""
        ids = F.pad(self.ids, (0, longer.ids.size(2) - self.ids.size(2)), value=PAD_ID)
        return _Beams(
            torch.cat([ids, longer.ids], dim=1),
            torch.cat([self.scores, longer.scores], dim=1),
            torch.cat([self.ended, longer.ended], dim=1),
        )


def _continuations(running: _Beams, log_probs: Tensor, keep: int) -> tuple[_Beams, Tensor]:
    """The ``keep`` best ways to add one token to the running beams of each sentence.

    Args:
        running: N beams a sentence.
        log_probs: (B * N, V) of the next token.
        keep: how many to return.

    Returns:
        The longer beams, and for each the beam (B, keep) that it goes on from.
    """
    num_sentences, num_beams = running.scores.shape
    vocab_size = log_probs.size(-1)
    totals = log_probs.view(num_sentences, num_beams, vocab_size) + running.scores[:, :, None]
    scores, places = totals.flatten(1).topk(keep, dim=1)
    origin, token = places // vocab_size, places % vocab_size
    ids = running.ids.gather(1, origin[:, :, None].expand(-1, -1, running.ids.size(2)))
    ids = torch.cat([ids, token[:, :, None]], dim=2)
    return _Beams(ids, scores, torch.zeros_like(scores, dtype=torch.bool)), origin


class KeyValues:
    """Keys and values of one attention, (rows, H, positions, E) each."""

    def __init__(self, k: Tensor, v: Tensor) -> None:
        self.k, self.v = k, v

    def append(self, k: Tensor, v: Tensor) -> None:
        """Add the positions of ``k`` and ``v`` after those held."""
        self.k, self.v = torch.cat([self.k, k], dim=2), torch.cat([self.v, v], dim=2)

    def select(self, rows: Tensor) -> None:
        """Keep ``rows``, in that order; a row may be named more than once."""
        self.k, self.v = self.k.index_select(0, rows), self.v.index_select(0, rows)


class DecoderCache:
    """What decoding remembers: where it is, and every layer's keys and values.

    The memory's keys and values are held once a sentence, however many beams look at it.

    Args:
        model: in eval mode.
        src_ids: (B, S) sources; they are encoded here.

    Attributes:
        position: of the next decoder input, from 0.
        allowed: (B, 1, 1, S), True at real source tokens.
        own: each layer's keys and values of the target so far, R rows.
        memory: each layer's keys and values of the source, B rows.
    """

    def __init__(self, model: Transformer, src_ids: Tensor) -> None:
        encoded = encode_in_parts(model, src_ids)
        self.position = 0
        self.allowed = model.source_allowed(src_ids)
        self.memory = [
            KeyValues(*layer.cross_attn.keys_and_values(encoded)) for layer in model.decoder.layers
        ]
        self.own = [KeyValues(kv.k[:, :, :0], kv.v[:, :, :0]) for kv in self.memory]

    def select_rows(self, rows: Tensor) -> None:
        """Keep the decoder rows ``rows``, in that order."""
        for key_values in self.own:
            key_values.select(rows)

    def select_sentences(self, rows: Tensor) -> None:
        """Keep the sentences ``rows``, in that order."""
        self.allowed = self.allowed.index_select(0, rows)
        for key_values in self.memory:
            key_values.select(rows)


def encode_in_parts(model: Transformer, src_ids: Tensor) -> Tensor:
    """The memory (B, S, D) of sources (B, S); what stands at padding is never looked at.

    A few sentences at a time, each part only as wide as its longest: a batch that is sorted by
    length, but small, holds very different ones.
    """
    width = src_ids.size(1)
    lengths = (src_ids != model.pad_id).sum(dim=1).tolist()
    parts = []
    for start in range(0, len(lengths), ENCODED_AT_ONCE):
        end = start + ENCODED_AT_ONCE
        longest = max(lengths[start:end])
        encoded = model.encode(src_ids[start:end, :longest])
        parts.append(F.pad(encoded, (0, 0, 0, width - longest)))
    return torch.cat(parts)


def next_logits(model: Transformer, tokens: Tensor, cache: DecoderCache) -> Tensor:
    """Feed one more decoder input a row.

    Args:
        model: in eval mode.
        tokens: (R,) the tokens chosen last.
        cache: of the positions before; this one is added.

    Returns:
        Logits of the next token, (R, V).
    """
    x = model.embed(tokens[:, None], model.decoder, cache.position)  # (R, 1, D)
    for layer, own, memory in zip(model.decoder.layers, cache.own, cache.memory, strict=True):
        x = _layer_step(layer, x, own, memory, cache.allowed)
    cache.position += 1
    return model.project(model.decoder.norm(x))[:, 0]


def _without_never_generated(scores: Tensor) -> Tensor:
    """Give <pad> and <s> no chance; changes ``scores`` (R, V) in place."""
    scores[:, list(NEVER_GENERATED)] = float("-inf")
    return scores


def _layer_step(
    layer: DecoderLayer, x: Tensor, own: KeyValues, memory: KeyValues, allowed: Tensor
) -> Tensor:
    """`DecoderLayer.forward` for one new position a row, (R, 1, D)."""
    x = layer.add_norm_self(x, lambda y: _self_attention_step(layer.self_attn, y, own))
    x = layer.add_norm_cross(
        x, lambda y: _cross_attention_step(layer.cross_attn, y, memory, allowed)
    )
    return layer.add_norm_ffn(x, layer.ffn)


def _self_attention_step(attention: MultiHeadAttention, y: Tensor, own: KeyValues) -> Tensor:
    """Attend to the target so far. Nothing later exists yet, so no mask is needed."""
    own.append(*attention.keys_and_values(y))
    return attention.attend_to(y, own.k, own.v, None)


def _cross_attention_step(
    attention: MultiHeadAttention, y: Tensor, memory: KeyValues, allowed: Tensor
) -> Tensor:
    """Attend to the source: the beams of a sentence are so many queries to one memory."""
    queries = y.view(len(memory.k), -1, y.size(-1))  # (B, N, D)
    return attention.attend_to(queries, memory.k, memory.v, allowed).reshape(y.shape)
