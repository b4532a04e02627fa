"""Shared by both versions: data, tokenizer, objective, metrics, results and figures."""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - said before anything that older ones cannot read
    raise SystemExit(
        f"Python 3.10 or newer is needed; this is {sys.version.split()[0]}. See INSTALL.md."
    )
