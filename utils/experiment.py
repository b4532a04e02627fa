"""One experiment: what both versions make of the options, so that they run the same."""

import dataclasses
import math
from dataclasses import dataclass

from utils.batching import LengthBatches
from utils.capture import Inside
from utils.config import Settings, UserError
from utils.data import PreparedData
from utils.decoding import Decoding
from utils.objective import with_schedule
from utils.tracking import ProbePlan, Report, Tracker

# Probes after the one before training: how many in a long run, and how many steps a shorter run
# has for each.
PROBES, CLOSE_PROBES = (11, 400), (35, 100)  # the second with --track_internals
LEAST_PROBES = 5


@dataclass(frozen=True)
class Experiment:
    """Data, batches, schedule and search of a run.

    Attributes:
        settings: all options, with nothing left open.
        data: what is learnt and evaluated on.
        sampler: the batches of this process; `LengthBatches.set_epoch` plans an epoch.
        num_steps: optimizer steps planned.
        decoding: how translations are searched for.
    """

    settings: Settings
    data: PreparedData
    sampler: LengthBatches
    num_steps: int
    decoding: Decoding

    @classmethod
    def plan(
        cls, settings: Settings, data: PreparedData, rank: int = 0, world_size: int = 1
    ) -> "Experiment":
        """Fill in what the user left open.

        Args:
            settings: the user's options.
            data: prepared by them.
            rank: which of the processes this is, from 0.
            world_size: processes that train together, each on ``--batch_size`` sentences a batch.

        Raises:
            UserError: there are fewer training pairs than processes.
        """
        train = settings.train
        sampler = LengthBatches(
            data.train.lengths,
            train.batch_size,
            train.max_tokens,
            settings.run.seed,
            rank,
            world_size,
        )
        steps_per_epoch = math.ceil(len(sampler) / train.gradient_accumulation_steps)
        train = with_schedule(train, settings.model.d_model, steps_per_epoch)
        num_steps = train.epochs * steps_per_epoch
        if train.max_steps is not None:
            num_steps = min(num_steps, train.max_steps)
        return cls(
            settings=dataclasses.replace(settings, train=train),
            data=data,
            sampler=sampler,
            num_steps=num_steps,
            decoding=Decoding(settings.data.max_length, train.beam_size, train.length_penalty),
        )

    def require_same_data(self, fingerprint: str) -> None:
        """Refuse to go on with a run that learnt from other pairs.

        Args:
            fingerprint: of the interrupted run's dataset.

        Raises:
            UserError: this experiment's dataset is another one.
        """
        if fingerprint != self.data.corpus.fingerprint():
            raise UserError(
                "--resume: the dataset is not the one that the interrupted run trained on; "
                "restore it, or start anew without --resume"
            )

    def tracker(self, inside: Inside, report: Report) -> Tracker:
        """What follows a model while it is trained.

        Args:
            inside: how to look into it.
            report: takes each probe.
        """
        run = self.settings.run
        most, steps_each = CLOSE_PROBES if run.track_internals else PROBES
        count = min(most, max(LEAST_PROBES, self.num_steps // steps_each))
        return Tracker(
            inside,
            self.data.eval,
            self.data.tokenizer,
            self.settings.train.label_smoothing,
            ProbePlan(self.num_steps, run.track_every, count),
            run.track_internals,
            report,
        )
