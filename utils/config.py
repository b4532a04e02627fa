"""What a run is made of: every option, as a field of a frozen, validated configuration.

Its name, type, default, help text and checks stand here and nowhere else. `utils.command_line`
adds the fields to a parser; ``main`` hands finished objects on, and nothing past it sees the parsed
arguments. Standard library only, so that ``--help`` is quick.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

Preset = Literal["tiny", "small", "base", "big"]


class UserError(ValueError):
    """The user's input is wrong: ``main`` prints the message as one line and exits with 2.

    The message says what is wrong, where, and what to do about it.
    """


def option(default: Any, help: str, **metadata: Any) -> Any:
    """Declare a dataclass field that is also a command-line option.

    Args:
        default: the value when the option is not given.
        help: one line for ``--help``, with the unit.
        **metadata: ``flag``, the option's name where it differs from the field's (the code uses
            the paper's names); ``metavar``; ``repeat``, True where the option may be repeated;
            ``help_no``, the help line of the ``--no_`` form of a three-state switch.
    """
    return field(default=default, metadata={"help": help, **metadata})


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise UserError(message)


def _require_at_least(config: Any, least: float, *names: str) -> None:
    for f in fields(config):
        value = getattr(config, f.name)
        if f.name in names and value is not None:
            _require(value >= least, f"--{option_name(f)} must be at least {least}, not {value}")


def _require_finite(config: Any) -> None:
    for f in fields(config):
        value = getattr(config, f.name)
        if isinstance(value, float):
            _require(math.isfinite(value), f"--{option_name(f)} must be a finite number: {value}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where and how a run happens; accepted by every ``--version``."""

    device: Literal["auto", "cpu", "cuda", "mps"] = option("auto", "auto takes a GPU if any")
    seed: int = option(42, "of the data, the weights, the batch order and dropout", metavar="N")
    output_dir: str = option(".", "folder in which results_* are written", metavar="DIR")
    resume: bool = option(False, "go on with the interrupted run in the output folder")
    debug: bool = option(False, "log details: parameter table, example tokens, every step")
    visualize: bool | None = option(
        None, "write the full set of figures, not only the main ones", help_no="write no figures"
    )
    track_internals: bool = option(False, "follow Q, K, V, attention and gradients more closely")
    track_every: int | None = option(None, "optimizer steps between two probes", metavar="N")
    wandb: bool = option(False, "log to Weights & Biases too")
    wandb_project: str = option("transformer-tutorial", "its project", metavar="NAME")
    quiet: bool = option(False, "print warnings and the result only")
    lang: Literal["auto", "ko", "en"] = option(
        "auto", "language of the tour, the figures and the comparison; auto: the system's"
    )
    figure_format: Literal["png", "svg", "pdf"] = option(
        "png", "svg and pdf are written beside the PNG"
    )

    def __post_init__(self) -> None:
        _require(0 <= self.seed < 2**32, f"--seed must be from 0 to 2^32 - 1, not {self.seed}")
        _require_at_least(self, 1, "track_every")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which sentence pairs are learnt and how they become tokens."""

    dataset: str = option(
        "grammar",
        "grammar, copy or reverse (embedded); a file, a prefix of two aligned files or a folder "
        "with splits; or a translation set on the Hugging Face hub",
        metavar="NAME|PATH",
    )
    src_lang: str = option("en", "source language, as columns and files name it", metavar="LANG")
    tgt_lang: str = option("ko", "target language", metavar="LANG")
    src_column: int = option(1, "source column of a tab-separated file", metavar="N")
    tgt_column: int = option(2, "target column of a tab-separated file", metavar="N")
    train_size: int | None = option(
        None, "training pairs (default: 60,000 of an embedded dataset, else all)", metavar="N"
    )
    eval_size: int | None = option(
        None,
        "evaluation pairs (default: 500 of an embedded dataset, else the validation split or a "
        "tenth of the pairs, at most 1,000)",
        metavar="N",
    )
    max_length: int = option(
        128, "longest sentence in tokens; longer ones are left out", metavar="N"
    )
    vocab_size: int = option(
        8000,
        "entries of the joint BPE vocabulary, at most (2,600 for an embedded dataset)",
        metavar="N",
    )
    num_workers: int = option(0, "processes that prepare batches", metavar="N")

    def __post_init__(self) -> None:
        _require_at_least(self, 1, "src_column", "tgt_column", "train_size", "eval_size")
        _require_at_least(self, 4, "max_length")
        # 4 special tokens, 256 bytes, and something to learn.
        _require_at_least(self, 300, "vocab_size")
        _require_at_least(self, 0, "num_workers")
        _require(
            self.src_lang != self.tgt_lang,
            f"--src_lang and --tgt_lang are both {self.src_lang!r}; name two languages",
        )
        _require(
            self.src_column != self.tgt_column,
            f"--src_column and --tgt_column are both {self.src_column}; name two columns",
        )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of the Transformer (Vaswani et al. 2017, section 3 and table 3).

    The field defaults are the preset ``small``, the size that the default run is tuned for.
    """

    preset: Preset = option("small", "tiny and small train on a CPU; base and big as in table 3")
    d_model: int = option(64, "width of the residual stream", flag="hidden_size", metavar="N")
    num_layers: int = option(2, "layers of the encoder and of the decoder, each", metavar="N")
    num_heads: int = option(4, "attention heads; must divide the width", metavar="N")
    d_ff: int | None = option(
        None, "inner width of the feed-forward network (default: 4 x width)", flag="ffn_size",
        metavar="N",
    )  # fmt: skip
    dropout: float = option(
        0.1, "dropout rate, from 0 to below 1 (0 for an embedded dataset)", metavar="P"
    )
    norm: Literal["post", "pre"] = option(
        "post", "LayerNorm after (the paper) or before a sublayer"
    )
    attention: Literal["sdpa", "eager"] = option("sdpa", "fused kernel, or step by step")

    def __post_init__(self) -> None:
        _require_at_least(self, 1, "d_model", "num_layers", "num_heads", "d_ff")
        if self.d_ff is None:
            object.__setattr__(self, "d_ff", 4 * self.d_model)
        _require(
            self.d_model % self.num_heads == 0,
            f"--num_heads {self.num_heads} does not divide --hidden_size {self.d_model}",
        )
        _require(
            self.d_model % 2 == 0,
            f"--hidden_size must be even (sines and cosines come in pairs), not {self.d_model}",
        )
        _require_finite(self)
        _require(0 <= self.dropout < 1, f"--dropout must be in [0, 1), not {self.dropout}")


# Table 3 of the paper, rows "base" and "big"; "tiny" is the Transformer-Tiny of Wu et al. 2021.
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"d_model": 128, "num_layers": 4, "num_heads": 4, "d_ff": 256, "dropout": 0.3},
    "small": {},
    "base": {"d_model": 512, "num_layers": 6, "num_heads": 8, "d_ff": 2048, "dropout": 0.1},
    "big": {"d_model": 1024, "num_layers": 6, "num_heads": 16, "d_ff": 4096, "dropout": 0.3},
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the model is trained and decoded (sections 5 and 6.1)."""

    epochs: int | None = option(
        None,
        "passes over the training pairs (default: what --max_steps needs, else 3 for an embedded "
        "dataset and 10 for others)",
        metavar="N",
    )
    max_steps: int | None = option(None, "stop after so many optimizer steps", metavar="N")
    batch_size: int = option(32, "sentences per batch", metavar="N")
    max_tokens: int | None = option(
        None, "token budget per batch (sentences x longest), replaces --batch_size", metavar="N"
    )
    learning_rate: float | None = option(
        None,
        "peak learning rate (default: by the paper's rule for this width; 0.004 for an embedded "
        "dataset and the default shape)",
        metavar="RATE",
    )
    warmup_steps: int | None = option(
        None,
        "steps of linear warm-up (default: by the length of the run, up to 4,000)",
        metavar="N",
    )
    label_smoothing: float = option(
        0.1, "probability mass spread over all classes (0.03 for an embedded dataset)", metavar="P"
    )
    gradient_accumulation_steps: int = option(1, "batches per optimizer step", metavar="N")
    precision: Literal["fp32", "bf16", "fp16"] = option("fp32", "autocast type of the step")
    max_grad_norm: float = option(0.0, "clip gradients to this norm (0: off)", metavar="NORM")
    compile: bool = option(False, "compile the training step (worth it on a GPU)")
    patience: int | None = option(
        None, "stop after so many evaluations without a better NLL", metavar="N"
    )
    keep_checkpoints: int = option(3, "newest checkpoint_epoch_N.pt to keep", metavar="N")
    average_checkpoints: int = option(
        0,
        "average the last so many epochs at the end; kept if better (0: off; 2 for an embedded "
        "dataset)",
        metavar="N",
    )
    beam_size: int = option(1, "beams of the search; 1 is greedy", metavar="N")
    length_penalty: float = option(1.0, "divides a score by length ** this", metavar="X")

    def __post_init__(self) -> None:
        _require_finite(self)
        _require_at_least(
            self, 1, "epochs", "max_steps", "batch_size", "max_tokens", "warmup_steps",
            "gradient_accumulation_steps", "patience", "keep_checkpoints", "beam_size",
        )  # fmt: skip
        _require_at_least(self, 0, "max_grad_norm", "average_checkpoints")
        if self.learning_rate is not None:
            _require(
                0 < self.learning_rate <= 1,
                f"--learning_rate must be above 0 and at most 1, not {self.learning_rate}",
            )
        _require(
            0 <= self.label_smoothing < 1,
            f"--label_smoothing must be in [0, 1), not {self.label_smoothing}",
        )


@dataclass(frozen=True, kw_only=True)
class AnalysisConfig:
    """What ``--version analysis`` looks at."""

    checkpoint: str | None = option(
        None,
        "a .pt of ours, or a folder or hub name of any MarianMT model (default: the demo model)",
        metavar="PATH",
    )
    text: tuple[str, ...] = option(
        (),
        "a sentence to translate and analyse; may be repeated; - reads lines of standard input "
        "and, with --quiet, prints their translations only",
        repeat=True,
    )
    tgt_text: tuple[str, ...] = option((), "its given translation", repeat=True)


# Group name in --help -> the configuration that holds its options.
GROUPS: dict[str, type] = {
    "run": RunConfig,
    "data": DataConfig,
    "model": ModelConfig,
    "training": TrainConfig,
    "analysis": AnalysisConfig,
}


# What the embedded datasets are learnt with, where neither the user nor a preset says, so that the
# default run reaches its goal on two cores: 97 % of unseen combinations translated exactly.
# Dropout would only slow it, there being new sentences without end to learn from, and so would as
# much label smoothing as the paper's, where each source has one right translation.
EMBEDDED_DATASETS = ("grammar", "copy", "reverse")
EMBEDDED_DEFAULTS = {
    "train_size": 60_000, "eval_size": 500, "vocab_size": 2600, "epochs": 3, "dropout": 0.0,
    "label_smoothing": 0.03, "learning_rate": 4e-3, "average_checkpoints": 2,
}  # fmt: skip
# What is computed stays the same, or nearly: a run that ran out of memory can go on in bf16.
MAY_CHANGE_ON_RESUME = ("num_workers", "precision", "compile")
# The rate suits the default shape alone; for others the paper's rule holds.
SHAPE_OPTIONS = ("preset", "hidden_size", "num_layers")


def option_name(f: dataclasses.Field) -> str:
    """The option's name on the command line and in files, without dashes."""
    return f.metadata.get("flag", f.name)


def build(config: type, given: Mapping[str, Any]) -> Any:
    """Build one configuration from the options the user gave, by option name.

    For the model the preset fills what was not given: explicit options win.

    Raises:
        UserError: a value is out of its range.
    """
    by_field = {
        f.name: tuple(given[option_name(f)]) if f.metadata.get("repeat") else given[option_name(f)]
        for f in fields(config)
        if option_name(f) in given
    }
    if config is ModelConfig:
        by_field = {**PRESETS[by_field.get("preset", ModelConfig.preset)], **by_field}
    return config(**by_field)


@dataclass(frozen=True)
class Settings:
    """All configurations of one run.

    Attributes:
        version: what is run.
        given: the options the user gave, by option name; the rest are defaults.
    """

    version: str
    run: RunConfig
    data: DataConfig
    model: ModelConfig
    train: TrainConfig
    analysis: AnalysisConfig
    given: Mapping[str, Any]

    @classmethod
    def from_options(cls, version: str, given: Mapping[str, Any]) -> "Settings":
        """Build every configuration from the options the user gave.

        Raises:
            UserError: a value is out of its range.
        """
        options = dict(given)
        if options.get("dataset", DataConfig.dataset) in EMBEDDED_DATASETS:
            options = EMBEDDED_DEFAULTS | options
            if "preset" in given and "dropout" not in given:
                del options["dropout"]  # the preset's
            if not given.keys().isdisjoint(SHAPE_OPTIONS) and "learning_rate" not in given:
                del options["learning_rate"]
            if "max_steps" in given and "epochs" not in given:
                del options["epochs"]  # as many as those steps need
        return cls(version, *(build(config, options) for config in GROUPS.values()), given=given)

    def flat(self) -> dict[str, Any]:
        """All options as one dictionary of plain values, keyed by option name."""
        groups = (self.run, self.data, self.model, self.train, self.analysis)
        options = {
            option_name(f): getattr(group, f.name) for group in groups for f in fields(group)
        }
        return {"version": self.version} | options

    def resumed_from(self, saved: Mapping[str, Any]) -> "Settings":
        """The settings of an interrupted run, with what may change taken from this one.

        Options of the run group may change, the length of the training, and how a step is computed.

        Args:
            saved: `flat` of the interrupted run.

        Raises:
            UserError: the user gave another option than the interrupted run had.
        """
        of_run = {option_name(f) for f in fields(RunConfig)} - {"seed"}
        may_change = of_run | {"epochs", "max_steps", *MAY_CHANGE_ON_RESUME}
        for name, value in self.given.items():
            if name not in may_change and value != saved[name]:
                raise UserError(
                    f"--resume: --{name} {value} conflicts with the interrupted run, which has "
                    f"{saved[name]}; leave the option out, or start anew without --resume"
                )
        not_taken = {"version", *of_run}
        options = {name: value for name, value in saved.items() if name not in not_taken}
        return dataclasses.replace(
            Settings.from_options(self.version, options | dict(self.given)), given=self.given
        )
