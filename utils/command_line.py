"""From the configurations to a command line: a parser, and one option for each of their fields."""

import argparse
import dataclasses
import typing
from dataclasses import fields
from typing import Any, Literal, NoReturn

from utils.config import GROUPS, UserError, option_name


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong.

        Raises:
            UserError: always.
        """
        raise UserError(f"{message} (see --help)")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add every option of every group; options that are not given leave no attribute."""
    for title, config in GROUPS.items():
        group = parser.add_argument_group(title)
        hints = typing.get_type_hints(config)
        for f in fields(config):
            _add_option(group, f, hints[f.name])


def _add_option(group: Any, f: dataclasses.Field, hint: Any) -> None:
    """Add one field to an argparse group: bool -> switch, Literal -> choices, else its type."""
    name = option_name(f)
    common = {"dest": name, "default": argparse.SUPPRESS, "help": _help_text(f)}
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    if hint is bool:
        group.add_argument(f"--{name}", action="store_true", **common)
    elif kinds == [bool]:  # bool | None: three states
        group.add_argument(f"--{name}", action="store_true", **common)
        group.add_argument(
            f"--no_{name}", dest=name, action="store_false", default=argparse.SUPPRESS,
            help=f.metadata["help_no"],
        )  # fmt: skip
    elif typing.get_origin(hint) is Literal:
        group.add_argument(f"--{name}", choices=typing.get_args(hint), **common)
    elif f.metadata.get("repeat"):
        group.add_argument(f"--{name}", action="append", metavar="TEXT", **common)
    else:
        kind = hint if isinstance(hint, type) else kinds[0]
        group.add_argument(f"--{name}", type=kind, metavar=f.metadata.get("metavar"), **common)


def _help_text(f: dataclasses.Field) -> str:
    text = f.metadata["help"].replace("%", "%%")
    if f.default in (None, ()) or f.default is False:
        return text
    return f"{text} (default: {f.default})"
