"""Small run folders, written the way run_folder.py writes them, without any training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.lab import run_folder
from chainrule.lab.run_folder import save_arrays, write_json

MODELS = {
    "warmup": ("Part 1: softmax histogram", "warmup", 100, [1]),
    "2d-mlp": ("Part 2.1: MLP", "portrait-2d", 12, [2]),
    "2d-made": ("Part 2.2: MADE", "portrait-2d", 12, [2]),
    "pixelcnn": ("Part 3: PixelCNN, factorised over channels", "hopper-mnist", 4, [3, 8, 8]),
    "pixelcnn-made": ("Part 3: PixelCNN-MADE", "hopper-mnist", 4, [3, 8, 8]),
}


def write_run(folder: Path, recipe: str, *, jitter: float = 0.0, steps: int = 50, **changes: Any) -> dict[str, Any]:
    """A run folder of `recipe`; `changes` replace entries of result.json, which is returned."""
    rng = np.random.default_rng(len(recipe))
    title, data, levels, shape = MODELS.get(recipe, ("Another model", "mine", 4, [3, 8, 8]))
    shape = changes.get("shape") or shape
    result: dict[str, Any] = {
        "recipe": recipe,
        "title": title,
        "data": data,
        "levels": levels,
        "shape": shape,
        "test_bits_per_dim": float(rng.uniform(1, 7)),
        "validation_bits_per_dim": float(rng.uniform(1, 7)),
        "best_step": 40,
        "parameters": int(rng.integers(1000, 99999)),
        "steps": steps,
        "train_seconds": round(float(rng.uniform(5, 50)), 2),
        "seed": 0,
        "device": "CPU, 2 threads",
        "precision": "float32",
        "command": f"chainrule train {recipe}",
        "sample_count": 100,
    }
    arrays: dict[str, np.ndarray] = {"samples": rng.integers(0, levels, (100, *shape)).astype(np.uint8)}
    if len(shape) == 3:
        field = np.zeros(shape[1:])
        field[1:4, 2:5], field[4, 1:4] = 1e-3, 1e-2
        arrays["receptive_field"] = field
    elif shape == [1]:
        for name in ("model_pmf", "sample_frequencies", "data_frequencies"):
            arrays[name] = rng.dirichlet(np.ones(levels))
        arrays["offset"] = np.array(1)
        names = ("model_data", "samples_data", "samples_model")
        result |= {f"total_variation_{n}": v for n, v in zip(names, (0.0217, 0.1361, 0.1313), strict=True)}
    else:
        for name in ("truth", "model_joint"):
            arrays[name] = rng.dirichlet(np.ones(levels**2)).reshape(levels, levels)
        result |= {"exact_bits_per_dim": 3.4567, "entropy_bits_per_dim": 3.4001, "kl_bits": 0.1132}
        if recipe == "2d-mlp":
            result["encoding"] = "onehot"
    result |= changes
    lines = [{"step": i, "train": 3.5 + 1 / i} for i in range(1, steps + 1)]
    lines += [{"step": i, "validation": 3.5 + 1.1 / i} for i in range(10, steps + 1, 10)]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "result.json", result)
    write_json(folder / "config.json", {"recipe": {"train": {"lr": 0.003, "batch_size": 100, "jitter": jitter}}})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    save_arrays(folder / "arrays.npz", arrays)
    return result


def write_codec_run(folder: Path, **changes: Any) -> dict[str, Any]:
    """A run folder of the codec's benchmark, as `chainrule bench codec -o` leaves it."""
    rng = np.random.default_rng(5)
    names = ("xz -9e", "zstd -19", "PNG", "WebP")
    result: dict[str, Any] = {
        "benchmark": "codec",
        "model": "PixelCNNMADE",
        "parameters": 28140,
        "data": "hopper-mnist",
        "images": 300,
        "raw_bytes": 705600,
        "threads": 2,
        "model_bits_per_dim": 0.12340,
        "exact_bits_per_dim": 0.12345,
        "file_bytes": 10921,
        "file_bits_per_dim": 0.12382,
        "compress_seconds": 1.2345,
        "decompress_seconds": 2.3456,
        "compress_images_per_second": 243.01,
        "decompress_images_per_second": 127.91,
        "compress_megabytes_per_second": 0.57157,
        "decompress_megabytes_per_second": 0.30082,
        "single_image_bytes": 377,
        "single_image_compress_seconds": 0.1357,
        "single_image_decompress_seconds": 1.1359,
        "others": [
            {
                "codec": name,
                "bytes": 20000 + 3000 * i,
                "bits_per_dim": 8 * (20000 + 3000 * i) / 705600,
                "compress_seconds": 0.5 + i,
                "decompress_seconds": 0.0123 + i,
            }
            for i, name in enumerate(names)
        ],
        "best_other": "xz -9e",
        "times_smaller_than_best_other": 20000 / 10921,
    } | changes
    images = rng.integers(0, 4, (8, 3, 6, 5)).astype(np.uint8)
    run_folder.write_run(folder, "codec", result, {"heat_images": images, "heat_bits": rng.exponential(size=(8, 6, 5))})
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


BONUS_BITS = {
    "steps": {
        "pixelcnn": 0.2, "pixelcnn-made": 0.16, "pixelcnn-made-1": 0.164, "pixelcnn-made-2": 0.162, "gated": 0.19,
        "gated-made": 0.144, "logistic": 0.17, "grayscale": 0.15, "class-conditional": 0.142, "iqn": None,
        "iqn-1": None, "iqn-2": None, "image-gpt": 0.23, "pixelsnail": 0.167,
    },
    "time": {"pixelcnn": 0.199, "gated": 0.195, "gated-made": 0.152, "class-conditional": 0.1505},
    "photos": {"pixelcnn": 5.0, "pixelcnn-made": 4.8, "logistic": 4.56},
    "digits": {"pixelcnn-made": 1.8, "pixelcnn-made-1": 1.9, "gated-made": 1.7, "logistic": 1.665},
}  # fmt: skip
"""Made-up bits/dim of a bonus folder; None where there is no likelihood."""


def write_bonus(folder: Path, **changes: Any) -> Path:
    """A bonus folder with all that one can hold; `changes` go to the result of each run."""
    rng = np.random.default_rng(7)
    classes = {"class-conditional": "GatedPixelCNNMADE", "gated-made": "GatedPixelCNNMADE", "gated": "GatedPixelCNN"}
    for budget, runs in BONUS_BITS.items():
        for name, bits in runs.items():
            write_bonus_run(folder / budget / name, name, budget, bits, model=classes.get(name, name), **changes)
    arrays = {
        "gray_given": (4, 8, 8),
        "colorings": (4, 3, 3, 8, 8),
        "originals": (4, 3, 8, 8),
        "samples": (100, 3, 8, 8),
    }
    drawn = {name: rng.integers(0, 4, shape).astype(np.uint8) for name, shape in arrays.items()}
    save_arrays(folder / "steps" / "grayscale" / "arrays.npz", {**drawn, "gray_levels": np.array(10)})
    (folder / "quality").mkdir()
    for seed in range(3):
        real = {"images": 2000, "frechet_distance": 1.5, "class_entropy_bits": 3.3, "sure_90": 0.99, "novelty": 0.5}
        iqn = real | {"frechet_distance": 20.0 + seed, "class_entropy_bits": 3.2, "sure_90": 0.7 + seed / 100}
        made = real | {"frechet_distance": 30.0 + seed, "class_entropy_bits": 3.2 + seed / 10, "sure_90": 0.8}
        for name, row, error in (("iqn", iqn, 0.02), ("pixelcnn-made", made, 0.005)):
            content = {"model": name, "data": "hopper-mnist", "seed": seed, "calibration_images": 250}
            content |= {"calibration_error": error + seed / 1000, "uncertain_share": 0.05}
            content |= {"uncertain_calibration_error": 4 * error, "samples": row, "real": real}
            (folder / "quality" / f"{name}-{seed}.json").write_text(json.dumps(content))
    row = {"recipe": "gated", "parameters": 99, "milliseconds": 31.25, "milliseconds_least": 30.5}
    row |= {"milliseconds_most": 40.25, "ratio": 1.6, "steps": 2000}
    (folder / "steps.json").write_text(json.dumps({"benchmark": "steps", "device": "CPU, 2 threads", "rows": [row]}))
    return folder


def write_bonus_run(folder: Path, name: str, budget: str, bits: float | None, **changes: Any) -> None:
    """One run of a bonus folder."""
    recipe, _, seed = name.rpartition("-") if name[-1].isdigit() else (name, "", "0")
    result: dict[str, Any] = {"test_bits_per_dim": bits, "seed": int(seed), "shape": [3, 8, 8], "parameters": 1000}
    data, levels = {"photos": ("photos", 256), "digits": ("digits", 17)}.get(budget, ("hopper-mnist", 4))
    result |= {"data": data, "levels": levels}
    result |= {"shape": [1, 8, 8], "train_events": 1257} if budget == "digits" else {}
    result |= {"gray_bits_per_dim": 0.05, "color_bits_per_dim": 0.1} if recipe == "grayscale" else {}
    result |= {"test_quantile_loss": 0.0123, "parameters": 1010} if recipe == "iqn" else {}
    result |= {"steps": 2000 if budget == "time" else 3200, "train_seconds": 100.0 + len(name)} | changes
    write_run(folder, recipe, **result)
    if bits is None:
        path = folder / "result.json"
        kept = {key: value for key, value in json.loads(path.read_text()).items() if key != "test_bits_per_dim"}
        path.write_text(json.dumps(kept))
