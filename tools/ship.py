"""Make a shipped model of a finished run: python tools/ship.py RUN NAME

Rounds the run's weights to float16, matrices and kernels to seven significant bits, with zeros where masks hide them;
measures what rounding costs on the test set, finds the scales of the exact model anew, and writes
src/chainrule/shipped/NAME: the model, its training record and samples. The weights are packed by xz (`xz -d` gives
model.safetensors), as a wheel has at most 4 MB. The model card, README.md, is written by hand. Shipped models are
immutable: a name that is taken is refused.
"""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path

import safetensors.torch
import torch
from record import origin_without_place

from chainrule import zoo
from chainrule.data import save_grid
from chainrule.evaluation import bits_per_dim
from chainrule.fixedpoint import exact, fingerprint
from chainrule.lab.experiment import PIECE, keep_scales, open_data
from chainrule.version import commit

SAMPLES, PIECES = 100, 20
SIGNIFICANT = 7
"""Bits of a weight, of the eleven that float16 has: the others would add more than a third to its size."""
XZ = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 1, "pb": 1}]
"""Numbers of two bytes."""


def rounded(x: torch.Tensor) -> torch.Tensor:
    """A parameter as it ships: vectors in float16, all else with `SIGNIFICANT` bits of it.

    >>> rounded(torch.tensor([[1.0, 1.01, 1.02]])).tolist()
    [[1.0, 1.015625, 1.015625]]
    """
    if x.dim() > 1:
        mantissa, exponent = torch.frexp(x)
        x = torch.ldexp((mantissa * 2**SIGNIFICANT).round() / 2**SIGNIFICANT, exponent)
    return x.half().float()


def pack(out: Path, weights: bytes) -> None:
    """Put a model's weights into its folder, packed, and nowhere else."""
    (out / zoo.PACKED).write_bytes(lzma.compress(weights, filters=XZ))
    (out / zoo.WEIGHTS).unlink(missing_ok=True)


def main(run: Path, name: str) -> None:
    """Write the shipped folder of a run."""
    out = Path(zoo.__file__).parent / "shipped" / name
    if out.exists():
        raise SystemExit(f"{out} is there already: a shipped model never changes, choose the next number")
    record = json.loads((run / "config.json").read_text())
    result = json.loads((run / "result.json").read_text())
    for content in (record, result):
        origin_without_place(content)
    model = zoo.load(run)
    recipe = record["recipe"]
    dataset = open_data(
        result["data"], result["seed"], result["levels"], recipe["validation"], any_size=recipe["any_size"]
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(rounded(parameter))
        for layer in model.modules():
            if isinstance(getattr(layer, "mask", None), torch.Tensor):
                layer.weight.masked_fill_(layer.mask == 0, 0.0)
    model.scales = None
    for refused in keep_scales(model, out, dataset):
        raise SystemExit(refused)
    exact_model = exact(model)
    stored = {
        "weights": f"float16, {SIGNIFICANT} significant bits",
        "test_bits_per_dim": bits_per_dim(model, dataset),
        "exact_test_bits_per_dim": bits_per_dim(exact_model, dataset),
        "fingerprint": fingerprint(exact_model).hex(),
        "commit": commit(),
    }
    weights = {key: value.half().contiguous() for key, value in model.state_dict().items()}
    pack(out, safetensors.torch.save(weights))
    assert fingerprint(exact(zoo.load(out))) == fingerprint(exact_model), (
        "the stored model is not the one that was measured"
    )
    facts = {"licence": "mit", "result": result, **record, "stored": stored}
    (out / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    any_size = None in model.shape
    samples = model.sample(
        PIECES if any_size else SAMPLES,
        generator=torch.Generator().manual_seed(0),
        size=(PIECE, PIECE) if any_size else None,
    )
    save_grid(samples.numpy(), result["levels"], out / "samples.png")
    print(json.dumps(stored, indent=2))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python tools/ship.py RUN NAME")
    main(Path(sys.argv[1]), sys.argv[2])
