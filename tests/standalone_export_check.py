"""Does an exported model do what its run reported? Asked with transformers alone.

    python tests/standalone_export_check.py RESULTS_FOLDER [MODEL_FOLDER]

Translates the evaluation sentences of a results folder with a bare ``generate`` and computes
their NLL by hand; none of the project's code is used. MODEL_FOLDER is RESULTS_FOLDER itself
unless given (``results_pytorch/hf_export`` for the scratch model). Exit code 0: all as reported.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

BATCH_SIZE = 64
TOLERANCE = 1e-4  # of the NLL, relative


def main(arguments):
    """Check one model; returns the exit code."""
    if not 1 <= len(arguments) <= 2:
        print("usage: standalone_export_check.py RESULTS_FOLDER [MODEL_FOLDER]", file=sys.stderr)
        return 2
    results, folder = Path(arguments[0]), Path(arguments[-1])
    lines = (results / "logs" / "translations.jsonl").read_text("utf-8").split("\n")
    records = [json.loads(line) for line in lines if line]
    reported = json.loads((results / "summary.json").read_text("utf-8"))["metrics"]["eval_nll"]
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    same, nll_sum, num_tokens = 0, 0.0, 0
    for start in range(0, len(records), BATCH_SIZE):
        batch = records[start : start + BATCH_SIZE]
        inputs = tokenizer([r["src"] for r in batch], return_tensors="pt", padding=True)
        found = tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True)
        same += sum(text == r["hypothesis"] for text, r in zip(found, batch, strict=True))
        batch_sum, batch_tokens = nll(model, tokenizer, inputs, [r["reference"] for r in batch])
        nll_sum, num_tokens = nll_sum + batch_sum, num_tokens + batch_tokens
    mean = nll_sum / num_tokens

    checks = [
        (
            same == len(records) > 0,
            f"{same} of {len(records)} translations as recorded (beams: "
            f"{model.generation_config.num_beams})",
        ),
        (
            abs(mean - reported) <= TOLERANCE * abs(reported),
            f"NLL {mean:.6f} nats per target token of {num_tokens}, reported {reported:.6f}",
        ),
    ]
    for ok, text in checks:
        print(f"{'ok    ' if ok else 'WRONG '} {text}")
    return 0 if all(ok for ok, _ in checks) else 1


@torch.no_grad()
def nll(model, tokenizer, inputs, references):
    """Unsmoothed NLL, summed over the real target tokens, and their number."""
    targets = tokenizer(text_target=references, return_tensors="pt", padding=True)
    labels = targets["input_ids"]
    start = torch.full((len(labels), 1), model.config.decoder_start_token_id)
    logits = model(**inputs, decoder_input_ids=torch.cat([start, labels[:, :-1]], dim=1)).logits
    real = targets["attention_mask"].bool()
    log_probs = logits.double().log_softmax(-1)
    picked = log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return -picked[real].sum().item(), int(real.sum())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
