"""The machine a run happens on: device, versions, memory."""

import contextlib
import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from utils.config import UserError


def select_device(name: str) -> torch.device:
    """The device to run on; "auto" takes a GPU if there is one.

    Raises:
        UserError: the device asked for is not there.
    """
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if there[device])
    if not there[name]:
        usable = ", ".join(device for device, ok in there.items() if ok)
        raise UserError(f"--device {name}: PyTorch finds none here; usable: {usable}")
    return torch.device(name)


@contextlib.contextmanager
def cores_left_to(num_processes: int) -> Iterator[None]:
    """While entered, PyTorch uses so many cores less, for other processes that are at work.

    Threads that wait for each other on a busy core wait long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before - num_processes))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def describe_environment(device: torch.device) -> dict[str, str | None]:
    """Versions and device, for the record of a run."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
        "device": describe_device(device),
        "commit": _commit(),
    }


def describe_device(device: torch.device) -> str:
    """The device in words, e.g. ``cpu (2 threads)``."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)" if device.type == "cpu" else device.type


def _commit() -> str | None:
    """The commit of this code, if it runs from a git checkout."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def reset_peak_memory(device: torch.device) -> None:
    """Let `peak_memory_mb` count from now on, where the system can: on a GPU and on Linux."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        with contextlib.suppress(OSError):  # a kernel or container without it: counts from start
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb(device: torch.device) -> float | None:
    """Most memory held since `reset_peak_memory`, in MiB: GPU tensors, else the whole process.

    None where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
