"""The model card of a saved or published model, made from the record of the run that trained it.

A model that was loaded from a run, or from a folder with its record, remembers where that is. What its card says of
data, figures and training is read from there; once the weights have changed, the record no longer applies, and the card
says that nothing is known.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORD, CARD, SAMPLES = "training.json", "README.md", "samples.png"
HOME = "https://pypi.org/project/chainrule/"

DATA = {
    "warmup": "10,000 draws from a mixture of two Gaussians, in 100 bins",
    "portrait-2d": "pairs drawn from a joint distribution whose density is a public-domain portrait in gray",
    "hopper-mnist": "coloured digits: MNIST's, on random crops of a public-domain photograph, two bits a channel",
    "photos": "16×16 crops of the two photographs that scikit-learn ships",
    "digits": "the 8×8 handwritten digits that scikit-learn ships",
}
"""What each named data set is."""
ON_THE_HUB = {"hopper-mnist": ["ylecun/mnist"]}
"""Which of the Hub's data sets they are made from."""

ABSOLUTE = re.compile(r"(?<![\w.:/~-])~?/(?:[^\s/'\"]+/)*(?=[^\s/])")
"""The folders of an absolute path."""


@dataclass(frozen=True)
class Record:
    """What is known of how a model was trained.

    Args:
        facts: a run's config.json, with its result.json as `result`; what training.json holds.
        weights: `digest` of the weights that it is about.
        written: a card that somebody wrote by hand, if there is one.
        samples: where a picture of samples lies, if there is one.
    """

    facts: dict[str, Any]
    weights: str
    written: str | None = None
    samples: Path | None = None

    def files(self) -> dict[str, bytes]:
        """What a folder with the model should hold beside it, by name."""
        found = {RECORD: (json.dumps(self.facts, indent=2) + "\n").encode()}
        if self.samples is not None and self.samples.is_file():
            found[SAMPLES] = self.samples.read_bytes()
        return found


def read(folder: Path, model: Any) -> Record | None:
    """The record of the model that was loaded from `folder`; None if there is none that can be read."""
    try:
        if (folder / RECORD).is_file():
            facts, home = json.loads((folder / RECORD).read_text(encoding="utf-8")), folder
        elif folder.name == "model" and (folder.parent / "result.json").is_file():
            home = folder.parent
            config, result = (
                json.loads((home / f"{name}.json").read_text(encoding="utf-8")) for name in ("config", "result")
            )
            facts = {"result": result, **config}
        else:
            return None
        if not (isinstance(facts, dict) and isinstance(facts.get("result"), dict)):
            return None
        facts = without_places(facts)
        card = (home / CARD).read_text(encoding="utf-8") if (home / CARD).is_file() else "---"
    except (OSError, ValueError, TypeError, RecursionError):
        return None  # a model is worth loading without its record
    samples = home / SAMPLES
    return Record(
        facts, digest(model), None if card.startswith("---") else card, samples if samples.is_file() else None
    )


def without_places(value: Any) -> Any:
    """The record with only the last part of each absolute path: folders say something about a person, not about a run.

    >>> without_places({"command": "train --data /home/me/set --out runs/a", "source": "https://a.b/c/d"})
    {'command': 'train --data set --out runs/a', 'source': 'https://a.b/c/d'}
    """
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_places(item) for item in value]
    return ABSOLUTE.sub("", value) if isinstance(value, str) else value


def digest(model: Any) -> str:
    """A hash of a model's weights, to tell whether they are still those that a record is about."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tuple(tensor.shape)}\n".encode() + tensor.detach().cpu().double().numpy().tobytes())
    return found.hexdigest()


def record_of(model: Any) -> Record | None:
    """A model's record, if its weights are still those that it is about."""
    record: Record | None = model.record
    return record if record is not None and record.weights == digest(model) else None


def card_of(model: Any, name: str, licence: str | None = None) -> str:
    """A model card in Markdown, with the header that the Hub reads.

    Args:
        model: any model; its record is used if it has one.
        name: under which `cr.load` finds it.
        licence: its identifier on the Hub, such as "mit"; without one, that of the record.
    """
    record = record_of(model)
    facts = record.facts if record is not None else {}
    licence = licence or word(facts.get("licence")) or None
    if record is not None and record.written is not None:
        parts = [record.written.strip(), *use(model, name)]
    else:
        parts = [f"# {name}", about(model)]
        if record is not None and record.samples is not None:
            parts.append(f"![Samples]({SAMPLES})")
        parts += [*use(model, name), *(sections(facts) if facts else unrecorded()), *limits(model, facts)]
        parts += ["## Licence", f"{licence}." if licence else "None is stated: ask whoever published the model."]
    return header(model, name, facts, licence) + "\n\n".join(parts) + "\n"


def header(model: Any, name: str, facts: dict[str, Any], licence: str | None) -> str:
    """The card's front matter in YAML, as the Hub wants it."""
    from huggingface_hub import EvalResult, ModelCardData

    result = facts.get("result", {})
    data, bits = word(result.get("data")), number(result.get("test_bits_per_dim"))
    task = "unconditional-image-generation" if len(model.shape) == 3 else None
    measured = []
    if data and bits is not None:
        measured = [
            EvalResult(
                task or "other",
                data,
                data,
                "bits_per_dim",
                round(bits, 5),
                dataset_split="test",
                metric_name="bits/dim",
            )
        ]
    found = ModelCardData(
        library_name="chainrule",
        license=licence,
        pipeline_tag=task,
        tags=["autoregressive", "density-estimation", type(model).__name__],
        datasets=ON_THE_HUB.get(data),
        model_name=name.rpartition("/")[2] if measured else None,
        eval_results=measured or None,
    )
    return f"---\n{found.to_yaml()}\n---\n"


def about(model: Any) -> str:
    """What the model is, in one sentence."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    sides = "×".join("any" if side is None else str(side) for side in model.shape)
    kind = "images" if len(model.shape) == 3 else "events"
    return (
        f"A `{type(model).__name__}` of [chainrule]({HOME}) with {parameters:,} parameters, for {kind} of shape "
        f"{sides} and {model.levels} levels an entry."
    )


def use(model: Any, name: str) -> list[str]:
    """How to load the model, and what it can do."""
    lines = ["import chainrule as cr", "", f'model = cr.load("{name}")']
    asked = "16, size=(64, 64)" if model.any_size else "16"
    if not model.needs_context:
        lines.append(f"x = model.sample({asked})  # integers, (16, {', '.join(str(s or 64) for s in model.shape)})")
        if model.has_likelihood:
            lines.append("model.log_prob(x)  # nats, (16,)")
    return ["## Use", "    pip install chainrule", "\n".join(["```python", *lines, "```"])]


def sections(facts: dict[str, Any]) -> list[str]:
    """What the record says of the figures, the data and the training."""
    result, stored = facts["result"], table(facts.get("stored"))
    rows = [
        ("test", result.get("test_bits_per_dim")),
        (f"test, as stored here in {word(stored.get('weights'))}", stored.get("test_bits_per_dim")),
        ("test, its exact model", stored.get("exact_test_bits_per_dim")),
        ("validation", result.get("validation_bits_per_dim")),
    ]
    measured = [f"| {what} | {bits:.4f} |" for what, value in rows if (bits := number(value)) is not None]
    levels = number(result.get("levels"))
    events = number(result.get("test_events"))
    parts = ["## Figures"]
    if measured:
        parts.append("\n".join(["| | bits/dim |", "|---|---|", *measured]))
        if events and levels and levels > 1:
            guess = f"A uniform guess takes {math.log2(levels):.4g} bits/dim."
            parts.append(f"Over all {events:,.0f} events of the test set. {guess}")
    else:
        parts.append("The record has no bits/dim.")
    data = word(result.get("data"))
    seen = number(result.get("train_events"))
    lines = [f"`{data}`" + (f": {DATA[data]}" if data in DATA else "") + "."]
    if seen:
        lines.append(f"{seen:,.0f} training events.")
    parts += ["## Data", " ".join(lines)]
    if splits := table(facts.get("splits")):
        parts.append("\n".join(f"- {word(split)}: {word(said)}" for split, said in splits.items()))
    return [*parts, *training(facts)]


def training(facts: dict[str, Any]) -> list[str]:
    """How the model was trained: command, commit, steps, machine."""
    result, train = facts["result"], table(table(facts.get("recipe")).get("train"))
    versions = table(facts.get("versions"))
    command = word(facts.get("command")) or word(result.get("command"))
    parts = ["## Training", *([f"    {command}"] if command else [])]
    items = []
    steps, batch, seconds = (number(result.get(key)) for key in ("steps", "batch_size", "train_seconds"))
    if steps and batch:
        by = f" with {word(train['optimizer'])}" if "optimizer" in train else ""
        items.append(f"- {steps:,.0f} steps of {batch:,.0f} events{by}, seed {word(result.get('seed'))}")
    if (began := word(result.get("init")) or word(table(facts.get("recipe")).get("init"))) and began != "None":
        items.append(f"- begun from the weights of `{began}`")
    if seconds:
        where = ", ".join(filter(None, (word(result.get("device")), word(result.get("precision")))))
        items.append(f"- {seconds:,.0f} s without evaluations, on {where}")
    if commit := word(facts.get("commit")):
        changed = " with changes that were not committed" if commit.endswith("+") else ""
        items.append(f"- commit {commit.rstrip('+')}{changed}")
    if versions:
        items.append("- " + ", ".join(f"{word(package)} {word(version)}" for package, version in versions.items()))
    return [*parts, "\n".join([*items, f"- every setting: `{RECORD}`"])]


def unrecorded() -> list[str]:
    """What to say where there is no record."""
    return ["## Training", "Nothing is recorded of how these weights were trained, and no figures."]


def limits(model: Any, facts: dict[str, Any]) -> list[str]:
    """What the model cannot do, as far as its kind and its record tell."""
    found = []
    if not model.has_likelihood:
        found.append("- It has no likelihood: it samples, and can neither be measured in bits nor compress.")
    elif getattr(getattr(model, "head", None), "independent_channels", False) and model.shape[0] > 1:
        found.append("- The channels of a pixel are drawn independently of each other, given the earlier pixels.")
    if data := word(table(facts.get("result")).get("data")):
        found.append(f"- It was trained on `{data}` alone: other events are unlikely under it, and compress badly.")
    if facts:
        found.append("- The figures are of one run with one seed.")
    found.append("- Entries are drawn in order: a completion does not look at what comes after an unknown entry.")
    return ["## Limits", "\n".join(found)]


def word(value: Any) -> str:
    """A value of the record on one line; empty for anything else."""
    return "" if value is None or isinstance(value, dict | list) else " ".join(str(value).split())


def number(value: Any) -> float | None:
    """A finite number of the record, or None."""
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def table(value: Any) -> dict[str, Any]:
    """An object of the record; empty for anything else."""
    return value if isinstance(value, dict) else {}
