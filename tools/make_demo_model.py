"""Train the model that comes along in ``assets/demo_model``, with the history of its training.

    python tools/make_demo_model.py

``--version analysis`` looks into it when no other model is named. Takes some ten minutes on two
cores; the same seed, machine and versions of the packages give the same model.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from main import main as run_main  # noqa: E402  (the project is not installed)

TARGET = ROOT / "assets" / "demo_model"
RUN = (
    "--version huggingface --dataset grammar --train_size 60000 --epochs 6 --seed 42 "
    "--track_internals --no_visualize --device cpu"
).split()
MODEL = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
         "tokenizer_config.json")  # fmt: skip
HISTORY = "logs/tracking.npz"
METRICS = "logs/metrics.jsonl"
KEPT_STEPS = 20  # of so many training steps one line is kept; probes and evaluations all are
MOST_BYTES = 4 * 2**20


def make() -> None:
    """Train in an empty folder, then keep what an analysis needs."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        if status := run_main(RUN):
            sys.exit(status)
        keep(Path(folder) / "results_huggingface")
        os.chdir(ROOT)


def keep(run: Path) -> None:
    """Copy a run's model and history to `TARGET`, thinned out."""
    shutil.rmtree(TARGET, ignore_errors=True)
    (TARGET / "logs").mkdir(parents=True)
    for name in (*MODEL, HISTORY):
        shutil.copy(run / name, TARGET / name)
    lines = (run / METRICS).read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if is_kept(json.loads(line))]
    (TARGET / METRICS).write_text("".join(kept), encoding="utf-8")
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    files = {p.relative_to(TARGET).as_posix() for p in TARGET.rglob("*") if p.is_file()}
    summary["files"] = sorted(files | {"summary.json"})
    text = json.dumps(summary, ensure_ascii=False, indent=2) + "\n"
    (TARGET / "summary.json").write_text(text, encoding="utf-8")
    size = sum(path.stat().st_size for path in TARGET.rglob("*") if path.is_file())
    metrics = summary["metrics"]
    print(
        f"{TARGET}: {size / 2**20:.2f} MiB, exact match {metrics['exact_match']:.1%}, "
        f"NLL {metrics['eval_nll']:.4f}, alignment error rate {metrics['aer']:.3f}"
    )
    if size > MOST_BYTES:
        sys.exit(f"too large: at most {MOST_BYTES / 2**20:.0f} MiB")


def is_kept(record: dict) -> bool:
    """Whether a line of ``metrics.jsonl`` comes along."""
    return record["kind"] != "train" or record["step"] % KEPT_STEPS == 1


if __name__ == "__main__":
    make()
