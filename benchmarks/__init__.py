"""Benchmarks: each script prints a markdown table of what it measured side by side."""
