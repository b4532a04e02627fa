"""What changes from step to step while the scratch Transformer is trained."""

import dataclasses
import math
from typing import Any

import torch

from pytorch_version.model import Transformer
from utils import collectives, distributed
from utils.config import TrainConfig
from utils.objective import make_optimizer, make_schedule
from utils.progress import Progress


@dataclasses.dataclass
class LoopProgress(Progress):
    """Where the training loop stands.

    Attributes:
        epoch: epochs finished.
        batches: batches used of the epoch under way.
        best_nll: lowest evaluation NLL so far.
        evaluations_since_best: evaluations since then.
    """

    epoch: int = 0
    batches: int = 0
    best_nll: float = math.inf
    evaluations_since_best: int = 0


@dataclasses.dataclass
class TrainingState:
    """A model in training and all that changes with it from step to step.

    Attributes:
        model: on its device.
        optimizer: Adam.
        schedule: of the learning rate.
        scaler: of fp16 losses; does nothing in other precisions.
        progress: where the run stands.
    """

    model: Transformer
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    scaler: torch.amp.GradScaler
    progress: LoopProgress

    @classmethod
    def start(cls, model: Transformer, config: TrainConfig) -> "TrainingState":
        """The state before the first step.

        Args:
            model: on its device.
            config: filled in by `with_schedule`.
        """
        optimizer = make_optimizer(model, config)
        scaler = torch.amp.GradScaler(model.device.type, enabled=config.precision == "fp16")
        return cls(model, optimizer, make_schedule(optimizer, config), scaler, LoopProgress())

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs: tensors and plain values.

        Every process must call it: ``rng`` holds the state of each, by rank.
        """
        rng = {"cpu": torch.get_rng_state()}
        if self.model.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self.model.device)
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "progress": dataclasses.asdict(self.progress),
            "rng": collectives.gathered(rng),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where `state_dict` was called; the weights are loaded apart.

        Raises:
            UserError: another number of processes had trained together.
        """
        distributed.require_as_many(len(state["rng"]))
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if state["scaler"] and self.scaler.is_enabled():  # of fp16 alone, which may be new
            self.scaler.load_state_dict(state["scaler"])
        self.progress = LoopProgress(**state["progress"])
        rng = state["rng"][distributed.rank()]
        torch.set_rng_state(rng["cpu"].cpu())
        if "cuda" in rng:
            torch.cuda.set_rng_state(rng["cuda"].cpu(), self.model.device)
