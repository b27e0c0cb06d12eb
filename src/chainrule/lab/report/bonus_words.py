"""What the bonus section says, computed from the figures of its runs: who gains how much, and whether seeds agree."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from chainrule.lab.report.bonus_runs import BASE, Bonus, Entry, Measured, find, mean_of
from chainrule.lab.report.words import count, number, seconds

AT = {
    "steps": "At the same number of steps",
    "time": "In the same training time",
    "full": "On the full preset",
}
"""How a sentence about a budget begins."""
CONDITIONAL = "class-conditional"
"""The model whose bits are those of an image given its class."""
SOFTMAX = ("pixelcnn", "pixelcnn-made", "gated", "gated-made")
"""The models that end in a softmax over the levels of their data."""
MEASURES: dict[str, tuple[str, bool]] = {
    "frechet_distance": ("Fréchet distance", True),
    "class_entropy_bits": ("Class entropy (bits)", False),
    "sure_90": ("Share surer than 0.9", False),
    "sure_99": ("Share surer than 0.99", False),
    "marginal_error": ("Marginal error", True),
}
"""Names of measures of samples, and whether 0 is best; the others are best where real images are."""
UNEQUAL = 0.1
"""Differences between budgets above this fraction are said."""


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Mean and, of several seeds, the standard deviation.

    >>> spread([0.1, 0.2]), spread([0.1], 2), spread([])
    ('0.1500 ± 0.0707', '0.10', '–')
    """
    mean = number(mean_of(values), digits)
    return f"{mean} ± {number(statistics.stdev(values), digits)}" if len(values) > 1 else mean


def listing(items: Sequence[str]) -> str:
    """
    >>> listing(["a", "b", "c"]), listing(["a"])
    ('a, b and c', 'a')
    """
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def gain(entry: Entry | None, base: Entry | None) -> float | None:
    """Percent of bits that a model saves; negative where it needs more."""
    if entry is None or base is None or not entry.bits or not base.bits:
        return None
    return 100 * (1 - statistics.fmean(entry.bits) / statistics.fmean(base.bits))


def fewer(percent: float) -> str:
    """
    >>> fewer(7.26), fewer(-3.0), fewer(0.01)
    ('7.3 % fewer', '3.0 % more', 'as many')
    """
    if not round(abs(percent), 1):
        return "as many"
    return f"{abs(percent):.1f} % {'fewer' if percent > 0 else 'more'}"


def gains(entries: Sequence[Entry], budget: str) -> str:
    """Every model of a budget beside part 3's, the one that gains most first."""
    base = find(entries, BASE)
    found = [(percent, entry) for entry in entries if entry is not base and (percent := gain(entry, base)) is not None]
    if base is None or not found:
        return ""
    found.sort(key=lambda pair: -pair[0])
    parts = [f"{entry.name} needs {fewer(percent)}" for percent, entry in found[:1]]
    parts += [f"{entry.name} {fewer(percent)}" for percent, entry in found[1:]]
    return f"{AT[budget]}, compared with the {spread(base.bits)} bits/dim of {base.name}: {listing(parts)}."


def seeds(entries: Sequence[Entry]) -> list[str]:
    """How far the seeds of one model lie apart, and which models are no farther from part 3's."""
    said = []
    for entry in entries:
        if len(entry.bits) < 2:
            continue
        low, high = min(entry.bits), max(entry.bits)
        apart = 100 * (high / low - 1)
        text = f"{len(entry.bits)} seeds of {entry.name} lie from {number(low)} to {number(high)} bits/dim"
        text += f", {apart:.1f} % apart"
        if entry.key == BASE:
            close = [one.name for one in entries if one is not entry and within(gain(one, entry), apart)]
            text += f"; {listing(close)} differ{'s' * (len(close) == 1)} from it by no more than that" if close else ""
        said.append(text + ".")
    return said


def within(percent: float | None, apart: float) -> bool:
    return percent is not None and abs(percent) <= apart


def pairs(bonus: Bonus) -> list[str]:
    """Models beside the one that differs from them in one thing, by steps and by time."""
    said = [against(bonus, "gated", "pixelcnn", "Among the models factorised over channels")]
    trained = [entry for name in ("steps", "time") for entry in bonus.budgets[name]]
    conditional = find(trained, CONDITIONAL)
    network = conditional.result.get("model") if conditional else None
    twin = next((one for one in trained if one is not conditional and one.result.get("model") == network), None)
    if conditional and network and twin:
        sentence = against(bonus, conditional.key, twin.key, "Told the class of each image")
        most = math.log2(10) / math.prod(conditional.result["shape"])
        said.append(f"{sentence} To know one of ten classes is worth at most log₂ 10 bits, {number(most)} bits/dim.")
    return [sentence for sentence in said if sentence]


def against(bonus: Bonus, key: str, other: str, beginning: str) -> str:
    """One model beside another at the budgets where both are."""
    parts: list[str] = []
    names = ("", "")
    for name, how in (("steps", "at the same number of steps"), ("time", "in the same time")):
        one, two = (find(bonus.budgets[name], one) for one in (key, other))
        percent = gain(one, two)
        if percent is not None:
            parts.append(f"{fewer(percent)}{'' if parts else ' bits'} {how}")
            names = (one.name, two.name)
    return f"{beginning}, compared with {names[1]}, {names[0]} needs {listing(parts)}." if parts else ""


def budget(entries: Sequence[Entry], name: str) -> str:
    """What was equal at a budget, and what was not."""
    if not entries:
        return ""
    runs = [run for entry in entries for run in entry.runs]
    steps, times, parameters = (
        sorted({run.result[figure] for run in runs}) for figure in ("steps", "train_seconds", "parameters")
    )
    batches = sorted({size for run in runs if (size := run.train.get("batch_size"))})
    of = f" on batches of {listing([count(size) for size in batches])}" if batches else ""
    data = sorted({run.result["data"] for run in runs})
    mixed = f" They were tested on different data, {listing(data)}, and cannot be compared." if len(data) > 1 else ""
    said = f"training took {between(times, seconds)}, and the models have {between(parameters, count)} parameters."
    if name == "time":
        unequal = f" The longest training took {100 * (times[-1] / times[0] - 1):.0f} % more time than the shortest."
        base = find(entries, BASE)
        like = f" take as long as {count(base.steps)} of {base.name}" if base else " take equally long"
        return f"As many steps{of} as{like}: {said}" + unequal * (times[-1] > (1 + UNEQUAL) * times[0]) + mixed
    unequal = " The numbers of steps differ, so no model has the same budget as all others."
    return f"{between(steps, count)} steps{of}: {said}" + unequal * (len(steps) > 1) + mixed


def between(values: Sequence[float], shown: Callable[[Any], str]) -> str:
    """
    >>> between([1, 2, 3000], count), between([5], count)
    ('1 to 3,000', '5')
    """
    return shown(values[0]) if len(values) == 1 else f"{shown(values[0])} to {shown(values[-1])}"


def gray(entry: Entry, others: Sequence[Entry]) -> str:
    """What the gray image costs, what the colours cost once it is known, and what both cost in one."""
    given, colors = entry.values("gray_bits_per_dim"), entry.values("color_bits_per_dim")
    if not given or not colors:
        return ""
    said = (
        f"The gray image costs {spread(given)} bits for each colour entry, the colours given the gray image "
        f"{spread(colors)}, both together {spread(entry.bits)}."
    )
    other = find(others, "gated-made") or find(others, BASE)
    total = gain(entry, other)
    if total is None:
        return said
    percent = 100 * (1 - statistics.fmean(colors) / statistics.fmean(other.bits))
    return (
        f"{said} {other.name}, which has no gray image to go by, needs {spread(other.bits)} for the colours: given the "
        f"gray image they take {fewer(percent)} bits, and with the gray image counted in, {fewer(total)}."
    )


def photos(bonus: Bonus) -> list[str]:
    """The mixture of logistics beside every softmax model, on 8-bit images and on the digits' four levels."""
    said = [logistic(bonus.budgets["photos"]), logistic(bonus.budgets["steps"] or bonus.budgets["time"])]
    return [sentence for sentence in said if sentence]


def digits(entries: Sequence[Entry]) -> list[str]:
    """The mixture of logistics beside the softmax on a small set, how much is chance, and which runs overfit."""
    return [sentence for sentence in (logistic(entries), *seeds(entries)[:1], overfitting(entries)) if sentence]


def overfitting(entries: Sequence[Entry]) -> str:
    """Of how many runs the best weights on validation data are not the last; nothing if they always are."""
    runs = [run for entry in entries for run in entry.runs if run.result.get("best_step", 0) > 0]
    early = [run for run in runs if run.result["best_step"] < run.result["steps"]]
    if not early:
        return ""
    best = between(sorted({run.result["best_step"] for run in early}), count)
    sizes = {run.result.get("train_events") for run in early}
    size = f" The training set has {count(sizes.pop())} images." if len(sizes) == 1 and None not in sizes else ""
    whole = between(sorted({run.result["steps"] for run in early}), count)
    return (
        f"{len(early)} of the {len(runs)} runs overfit: their validation loss was least after {best} of {whole} steps, "
        f"and the weights of then are those that were kept and tested.{size}"
    )


def logistic(entries: Sequence[Entry]) -> str:
    one = find(entries, "logistic")
    others = [(entry, gain(one, entry)) for entry in entries if entry.key in SOFTMAX and gain(one, entry) is not None]
    if one is None or not others:
        return ""
    parts = [f"{fewer(percent or 0)} bits than {entry.name}" for entry, percent in others]
    where = f"On the {count(one.result['levels'])} levels of {one.result['data']}"
    return f"{where}, {one.name} needs {listing(parts)}.".replace("as many bits than", "as many bits as")


# ------------------------------------------------------------------------------------------------------ sample quality


def quality(found: Sequence[Measured]) -> list[str]:
    """PixelIQN beside its likelihood twin, measure by measure."""
    one, two = find(found, "iqn"), find(found, BASE)
    if one is None or two is None:
        return []
    said: list[str] = []
    nearer = {one.name: 0, two.name: 0}
    for measure, (title, zero) in MEASURES.items():
        ours, theirs = one.values(measure), two.values(measure)
        real = sorted({row[measure] for row in one.real + two.real if measure in row})
        if not ours or not theirs or not (zero or real):
            continue
        aim = 0.0 if zero else statistics.fmean(real)
        distances = {one.name: [abs(v - aim) for v in ours], two.name: [abs(v - aim) for v in theirs]}
        best, other = sorted(distances, key=lambda name: statistics.fmean(distances[name]))
        beside = f", {spread(real, 3)} for real images" if real else ""
        figures = f"{title}: {spread(ours, 3)} for {one.name}, {spread(theirs, 3)} for {two.name}{beside}"
        said.append(f"{figures}; {verdict(best, other, distances)}.")
        nearer[best] += 1
    if said:
        wins = f"{one.name} is the nearer on {nearer[one.name]} and {two.name} on {nearer[two.name]}"
        said.append(f"Averaged over seeds, {wins} of these {len(said)} measures.")
    return said


def verdict(best: str, other: str, distances: dict[str, list[float]]) -> str:
    """Who is nearer to real images, and how surely."""
    if max(map(len, distances.values())) < 2:
        return f"{best} is nearer to real images, by one seed of each"
    if max(distances[best]) < min(distances[other]):
        return f"every seed of {best} is nearer to real images than any of {other}"
    return f"{best} is nearer to real images on average, but the seeds overlap"


def size(bonus: Bonus) -> str:
    """How alike PixelIQN and its twin were trained, and how well their conditionals are calibrated."""
    entries = bonus.budgets["steps"]
    one, two = find(entries, "iqn"), find(entries, BASE)
    said = []
    if one is not None and two is not None:
        more = 100 * (one.result["parameters"] / two.result["parameters"] - 1)
        said.append(
            f"{one.name} has {count(one.result['parameters'])} parameters, {abs(more):.1f} % "
            f"{'more' if more > 0 else 'fewer'} than {two.name} with {count(two.result['parameters'])}; they were "
            f"trained for {count(one.steps)} and {count(two.steps)} steps."
        )
    return " ".join([*said, *calibration(bonus.quality, "its quantiles" if said else "PixelIQN's quantiles")])


def calibration(found: Sequence[Measured], whose: str) -> list[str]:
    """How well PixelIQN's quantiles are calibrated, beside its twin's distributions if these were measured."""
    one, two = find(found, "iqn"), find(found, BASE)
    errors, unsure, others, others_unsure = (
        model.values(name) if model else []
        for model in (one, two)
        for name in ("calibration_error", "uncertain_calibration_error")
    )
    if not errors:
        return []
    said = f"The mean absolute calibration error of {whose} is {spread(errors)}"
    said += f", {spread(unsure)} among the entries of which it is not certain" if unsure else ""
    if others:
        said += f"; that of {two.name}'s distributions is {spread(others)}"
        said += f", {spread(others_unsure)} among such entries" if others_unsure else ""
    return [said + "."]


def headline(bonus: Bonus) -> str:
    """The outcome in one sentence: the model with the fewest bits at each budget, of those that are told nothing."""
    parts = []
    for name, how in (("steps", "at the same number of steps"), ("time", "in the same training time")):
        found = [entry for entry in bonus.budgets[name] if entry.bits and entry.key != CONDITIONAL]
        if not found:
            continue
        best = min(found, key=lambda entry: statistics.fmean(entry.bits))
        percent = gain(best, find(found, BASE))
        gained = f" ({fewer(percent)} than PixelCNN-MADE)" if percent and best.key != BASE else ""
        parts.append(f"{how} {best.name} has the fewest bits, {spread(best.bits)} bits/dim{gained}")
    text = listing(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""
