"""What several processes that train together do as one (``torchrun``).

Every function but `joined` must be called by all of them alike; with one process each is trivial.
Numbers and objects of the host travel through gloo, so that no GPU is waited for.
"""

import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from utils.distributed import is_main, local_rank, rank, world_size
from utils.results import ProcessLost

# One process looks inside and writes while the others wait for it.
LONGEST_WAIT = timedelta(hours=2)
# gloo raises a bare RuntimeError when another process is gone.
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo/transport")
T = TypeVar("T")


@contextmanager
def joined(device: str) -> Iterator[None]:
    """While entered, the processes that ``torchrun`` started are connected.

    Args:
        device: the user's option; "auto" and "cuda" give each process of a machine its own GPU.

    Raises:
        ProcessLost: another one ended while this one needed it.
    """
    if world_size() == 1:
        yield
        return
    on_gpu = device in ("auto", "cuda") and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank())
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=LONGEST_WAIT)
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(text in str(error) for text in LOST):
            raise
        raise ProcessLost(
            "another process has ended, see above; go on from the newest checkpoint with --resume"
        ) from error
    finally:
        dist.destroy_process_group()


def leave() -> None:
    """After `joined`: let this process be one of its own, for work that it does alone."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        os.environ.pop(name, None)


def data_parallel(model: nn.Module) -> nn.Module:
    """The model as each process trains it on its own batches; gradients become their mean."""
    if world_size() == 1:
        return model
    # The position table, the only buffer, never changes: no need to send it around in every step.
    known = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    return DistributedDataParallel(model, gradient_as_bucket_view=True, **{name: False})


def gradients_kept(model: nn.Module, is_last: bool) -> AbstractContextManager:
    """Around forward and backward of one batch of a step: only the last one shares gradients.

    Args:
        model: as `data_parallel` gave it.
        is_last: whether the optimizer's step comes next.
    """
    return nullcontext() if is_last or world_size() == 1 else model.no_sync()


def add_up(tensor: Tensor) -> Tensor:
    """The sum of every process's ``tensor``, which is changed; a GPU is not waited for."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def total(*numbers: int) -> list[int]:
    """Each number summed over the processes."""
    if world_size() == 1:
        return list(numbers)
    return add_up(torch.tensor(numbers)).tolist()


def largest(number: int) -> int:
    """The largest of every process's number."""
    if world_size() == 1:
        return number
    tensor = torch.tensor(number)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return int(tensor)


def gathered(value: T) -> list[T]:
    """Every process's value, by rank."""
    if world_size() == 1:
        return [value]
    found: list[T | None] = [None] * world_size()
    dist.all_gather_object(found, value)
    return found


def from_main(make: Callable[[], T]) -> T:
    """What ``make`` gives the main process; it is called there alone.

    The other processes may be on machines that do not see the main one's files.
    """
    if world_size() == 1:
        return make()
    found = [make() if is_main() else None]
    dist.broadcast_object_list(found)
    return found[0]


def wait_for_all() -> None:
    """Return once all processes have come here."""
    total(0)


def share_of(items: Sequence[T]) -> Sequence[T]:
    """This process's part of ``items``; `whole_again` undoes it."""
    return items[rank() :: world_size()]


def whole_again(share: Sequence[T]) -> list[T]:
    """All items in their order, of the shares that `share_of` made."""
    shares = gathered(list(share))
    items: list[T | None] = [None] * sum(map(len, shares))
    for number, part in enumerate(shares):
        items[number :: len(shares)] = part
    return items
