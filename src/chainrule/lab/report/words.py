"""Numbers and sentences: what the page says about a run, from what its folder holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.lab.report.runs import CODEC, Run

ENCODINGS = {"onehot": "one-hot vector", "scalar": "real number", "embedding": "learned embedding"}
"""What the MLP's input encodings are called on the page."""
CLASSES = {"PixelCNNMADE": "PixelCNN-MADE", "Histogram": "Softmax histogram"}
"""What models are called on the page whose class has another name."""
CLOSE, FAR = 0.05, 0.2
"""Total variation distances below and above which two distributions are called close and clearly different."""


def number(value: Any, digits: int = 4) -> str:
    """A figure with a fixed number of decimals, or a dash where a run has none.

    >>> number(7.43), number(None), number(-0.00001)
    ('7.4300', '–', '0.0000')
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return "–"
    return f"{value:,.{digits}f}".replace("-", "−") if round(value, digits) else f"{0:.{digits}f}"


def count(value: Any) -> str:
    """A whole number with its thousands set apart.

    >>> count(119440), count(None)
    ('119,440', '–')
    """
    return f"{value:,}" if isinstance(value, int) else "–"


def seconds(value: Any) -> str:
    """A duration for people.

    >>> seconds(0.003), seconds(17.894), seconds(342.2), seconds(7385), seconds(None)
    ('3 ms', '17.9 s', '5 min 42 s', '2 h 3 min', '–')
    """
    if not isinstance(value, (int, float)):
        return "–"
    if value < 0.1:
        return f"{1000 * value:.0f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def brief(value: Any) -> str:
    """Seconds for a column of a table.

    >>> brief(0.00003), brief(0.00134), brief(1234.5), brief(None)
    ('< 0.0001', '0.0013', '1,234.5000', '–')
    """
    return "< 0.0001" if isinstance(value, (int, float)) and 0 <= value < 0.00005 else number(value)


def unit(run: Run) -> str:
    """What a run's losses are counted in."""
    if not run.has_likelihood:
        return "units of half the range of levels"
    return "bits" if run.dims == 1 else "bits per dimension"


def loss(run: Run) -> str:
    """What a run minimised."""
    return "Negative log-likelihood" if run.has_likelihood else "Quantile-Huber loss"


def facts(run: Run) -> list[tuple[str, str, bool]]:
    """What was run, as (term, value, whether the value is code)."""
    if run.recipe == CODEC:
        return facts_of_codec(run)
    result = run.result
    total = f" ({seconds(result['total_seconds'])} with validation)" if "total_seconds" in result else ""
    events = [(result.get("train_events"), "training"), (result.get("test_events"), "test")]
    sizes = ", ".join(f"{count(size)} {split} events" for size, split in events if size)
    rows = [
        ("Title", str(result.get("title", run.recipe)), False),
        ("Data", f"{result['data']}: {sizes}" if sizes else result["data"], False),
        ("Parameters", count(result["parameters"]), False),
        ("Steps", count(result["steps"]) + kept(run), False),
        ("Training", settings(run), False),
        ("Seconds", f"{number(result['train_seconds'], 1)} s of training steps{total}", False),
        ("Sampling", sampling(run), False),
        ("Device", f"{result['device']}, {result.get('precision', 'precision not noted')}", False),
        ("Seed", str(result["seed"]), False),
        ("Command", str(result.get("command", "")), True),
        ("Run folder", run.folder.name, True),
    ]
    return [row for row in rows if row[1]]


def facts_of_codec(run: Run) -> list[tuple[str, str, bool]]:
    """The same of a benchmark of the codec, which trains nothing."""
    result = run.result
    rows = [
        ("Model", model_name(result), False),
        ("Data", f"{result['data']}: {count(result['images'])} test images", False),
        ("Parameters", count(result["parameters"]) if "parameters" in result else "", False),
        ("Device", result["device"], False),
        ("Command", str(result.get("command", "")), True),
        ("Run folder", run.folder.name, True),
    ]
    return [row for row in rows if row[1]]


def model_name(result: dict[str, Any]) -> str:
    """What a person calls the model of a class.

    >>> model_name({"model": "PixelCNNMADE"}), model_name({})
    ('PixelCNN-MADE', 'A model')
    """
    name = str(result.get("model", "A model"))
    return CLASSES.get(name, name)


def kept(run: Run) -> str:
    """Which weights were kept."""
    best = run.result.get("best_step")
    return f" (best on validation data, and kept: step {count(best)})" if best else ""


def sampling(run: Run) -> str:
    drawn = run.result.get("sample_count")
    return f"{count(drawn)} samples in {seconds(run.result.get('sample_seconds'))}" if drawn else ""


def settings(run: Run) -> str:
    """Optimiser and the like, as far as config.json says.

    >>> from pathlib import Path
    >>> train = {"optimizer": "adam", "lr": 0.01, "schedule": "cosine", "batch_size": 100, "jitter": 1.5}
    >>> settings(Run(Path("a"), {"shape": [2]}, [], {}, train))
    'adam, learning rate 0.01 (cosine), batches of 100, jitter 1.5 levels'
    """
    train = run.train
    if not train:
        return ""
    schedule = train.get("schedule", "constant")
    parts = [str(train.get("optimizer", "")), f"learning rate {train.get('lr')} ({schedule})"]
    parts.append(f"batches of {count(train.get('batch_size'))}")
    if train.get("ema"):
        parts.append(f"weights averaged with decay {train['ema']}")
    if train.get("clip"):
        parts.append(f"gradients clipped at {train['clip']}")
    if train.get("jitter"):
        parts.append(f"jitter {train['jitter']} levels")
    if train.get("redraw"):
        parts.append("training digits on fresh crops every time")
    return ", ".join(parts)


def curve_note(run: Run) -> str:
    """Where the curves begin, if not at random weights, and why training's may lie above: they don't measure the same.

    >>> from pathlib import Path
    >>> curve_note(Run(Path("a"), {"shape": [2]}, [], {}, {"init": "pixelcnn-made-1"}))
    'The run began with the weights of pixelcnn-made-1.'
    """
    begin, reasons = [f"The run began with the weights of {run.train['init']}."] if run.train.get("init") else [], []
    if run.train.get("jitter"):
        reasons.append("the training loss is taken on jittered events, whose distribution is wider than the data's")
    if run.train.get("ema"):
        reasons.append("the validation loss belongs to the running average of the weights")
    return " ".join([*begin, *([f"Note: {' and '.join(reasons)}."] if reasons else [])])


def comparison(run: Run) -> list[str]:
    """The answer to "How do both plots compare visually to the data distribution?", from the measured distances."""
    model, samples, noise = (
        run.result.get(f"total_variation_{pair}") for pair in ("model_data", "samples_data", "samples_model")
    )
    if model is None or samples is None or noise is None:
        return []
    how = "follow the data's histogram closely" if model < CLOSE else "resemble the data's histogram"
    how = "differ visibly from the data's histogram" if model > FAR else how
    first = (
        f"The model's probabilities {how}: their total variation distance is {number(model)}, so no set of values "
        f"is more than {number(100 * model, 1)} percentage points likelier under one than under the other."
    )
    draws = f"{count(run.result.get('sample_count'))} draws"
    reason = (
        f"what sets them apart is mostly the noise of {draws} spread over {count(run.result['levels'])} values"
        if model < noise / 2
        else f"the noise of {draws} comes on top of what the model gets wrong"
    )
    second = (
        f"The empirical frequencies of its samples keep that outline but are more ragged: they lie {number(samples)} "
        f"from the data and {number(noise)} from the very model that they were drawn from, so {reason}."
    )
    return [first, second]


def receptive_sentence(field: np.ndarray, row: int, column: int) -> str:
    """What one sees in a receptive field, as far as it is so in this picture."""
    seen = field > 0
    future = seen.copy()
    future[:row] = False
    future[row, :column] = False
    if not seen.any():
        return "No pixel influences this one."
    parts = []
    if not future.any():
        parts.append(
            "Nothing below the framed pixel, nothing to its right in its own row and not the pixel itself has any "
            "influence: the conditional is causal in raster order."
        )
    parts += filter(None, [blind_spot(field, row, column)])
    strongest = np.unravel_index(int(field.argmax()), field.shape)
    if max(abs(int(strongest[0]) - row), abs(int(strongest[1]) - column)) <= 3:
        parts.append("Influence is strongest close by, within the reach of the first convolution.")
    return " ".join(parts)


def blind_spot(field: np.ndarray, row: int, column: int) -> str:
    """Whether earlier pixels above and to the right are seen; nothing where there are none.

    Only one whose mirror image on the left is seen counts as overlooked: the others are too far away for either side.
    """
    above = field[:row] > 0
    right = above[:, column + 1 :]
    if not right.size:
        return ""
    if right.all():
        return "All rows above are seen in full: there is no blind spot."
    left = above[:, :column][:, ::-1]
    width = min(left.shape[1], right.shape[1])
    if (left[:, :width] & ~right[:, :width]).any():
        return (
            "The wedge to the right above the framed pixel stays empty although raster order would allow it: this is "
            "the blind spot of stacked masked convolutions, whose view to the right widens by only one column with "
            "each row upwards."
        )
    return (
        "The rows above are seen as far to the right as to the left: there is no blind spot, and what stays empty is "
        "out of reach."
    )


def overfitting(runs: Sequence[Run]) -> str:
    """How much jitter the two-dimensional models were trained with."""
    amounts = {run.name: run.train.get("jitter") for run in runs if run.train.get("jitter")}
    if not amounts:
        return "The runs shown here were trained without it." if any(run.train for run in runs) else ""
    if len(set(amounts.values())) == 1:
        amount = next(iter(amounts.values()))
        return f"The noise has a standard deviation of {amount} levels for {' and '.join(amounts)}."
    return "The noise has a standard deviation of " + ", ".join(f"{a} levels for {n}" for n, a in amounts.items()) + "."


def best_encoding(runs: Sequence[Run], used: Run) -> str:
    """Which input encoding does best on validation data, beside the one that is used."""
    known = [run for run in runs if isinstance(run.result.get("validation_bits_per_dim"), float)]
    if len(known) < 2 or used not in known:
        return ""
    best, *others = sorted(known, key=lambda run: run.result["validation_bits_per_dim"])
    other = used if best is not used else others[0]
    margin = other.result["validation_bits_per_dim"] - best.result["validation_bits_per_dim"]
    names = [ENCODINGS.get(run.result["encoding"], run.result["encoding"]) for run in (best, other)]
    if best is used:
        return (
            f"On validation data the {names[0]} does best, {number(margin)} bits/dim ahead of the {names[1]}; "
            f"the MLP uses it."
        )
    return (
        f"On validation data the {names[0]} does best; the {names[1]}, which the MLP above uses, is "
        f"{number(margin)} bits/dim behind."
    )
