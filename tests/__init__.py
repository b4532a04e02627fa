"""Tests; `oracles` holds the implementations that ours are compared with."""
