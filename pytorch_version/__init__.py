"""The Transformer from scratch, section by section of the paper."""
