"""Train the digit classifier of `chainrule quality`: python tools/train_classifier.py NAME

Trains on the Hopper set with MNIST's labels, rounds the weights to float16, measures the accuracy on all 10,000 test
images once, and writes src/chainrule/shipped/NAME: the weights and the training record. What ships is immutable: a name
that is taken is refused.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import safetensors.torch
import torch

from chainrule import zoo
from chainrule.atomic import write_bytes
from chainrule.data import hopper_mnist
from chainrule.lab.provenance import device_name, origin
from chainrule.lab.quality import accuracy, load_classifier, train_classifier

STEPS, BATCH, SEED = 1400, 128, 0


def main(name: str) -> None:
    """Write the shipped folder of a classifier."""
    out = Path(zoo.__file__).parent / "shipped" / name
    if out.exists():
        raise SystemExit(f"{out} is there already: what ships never changes, choose the next number")
    torch.set_num_threads(1)
    dataset = hopper_mnist()
    began, used = time.perf_counter(), time.process_time()
    model = train_classifier(dataset, dataset.labels["train"], STEPS, SEED, BATCH)
    seconds, core_seconds = time.perf_counter() - began, time.process_time() - used
    weights = {
        key: value.half().contiguous() if value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }
    write_bytes(out / "model.safetensors", safetensors.torch.save(weights))
    stored = load_classifier(out)
    record = {
        "model": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights": "float16",
        "data": dataset.name,
        "train_events": len(dataset.train),
        "steps": STEPS,
        "batch_size": BATCH,
        "seed": SEED,
        "validation_accuracy": accuracy(stored, dataset.validation, dataset.labels["validation"]),
        "test_accuracy": accuracy(stored, dataset.test, dataset.labels["test"]),
        "test_events": len(dataset.test),
        "seconds": round(seconds, 1),
        "core_seconds": round(core_seconds, 1),
        "device": device_name(torch.device("cpu")),
        **origin(),
    }
    write_bytes(out / "training.json", (json.dumps(record, indent=2) + "\n").encode())
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python tools/train_classifier.py NAME")
    main(sys.argv[1])
