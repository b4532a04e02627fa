"use strict";
/* Equation 1 of the paper with this model's numbers: one row of attention, step by step. */

/**
 * softmax(q K^T / sqrt(d_k)) V for one query.
 *
 * Returns for each key the product, the scaled score, exp(score - highest), which is 0 where the
 * mask forbids the key, and the weight; and the root, the sum of the exponentials, and what the
 * values add up to.
 */
function attentionRow(q, keys, values, allowed) {
  const root = Math.sqrt(q.length);
  const products = keys.map((key) => key.reduce((sum, entry, i) => sum + entry * q[i], 0));
  const scores = products.map((product) => product / root);
  const highest = Math.max(...scores.filter((_, j) => allowed(j)));
  const exponentials = scores.map((score, j) => (allowed(j) ? Math.exp(score - highest) : 0));
  const sum = exponentials.reduce((a, b) => a + b, 0);
  const weights = exponentials.map((value) => value / sum);
  const context = q.map((_, e) =>
    values.reduce((total, value, j) => total + weights[j] * value[e], 0),
  );
  return { products, scores, weights, context, root, exponentials, sum };
}

/** The row chosen, with its vectors; null if this page has none of the sentence. */
function arithmeticNow() {
  const vectors = model().vectors[Chosen.sentence]?.[Chosen.attention];
  if (!vectors) {
    return null;
  }
  const [q, k, v] = ["q", "k", "v"].map((kind) => unpack(vectors[kind]).matrix(Chosen.head));
  const masked = Chosen.attention.startsWith("decoder") && Chosen.attention.endsWith("self_attn");
  const allowed = (j) => !masked || j <= Chosen.query;
  const row = attentionRow(q[Chosen.query], k, v, allowed);
  const most = row.weights.indexOf(Math.max(...row.weights));
  return { q: q[Chosen.query], keys: k, values: v, allowed, key: Chosen.key ?? most, ...row };
}
