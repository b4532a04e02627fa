"""Shared by both versions: data, tokenizer, objective, metrics, results and figures."""
