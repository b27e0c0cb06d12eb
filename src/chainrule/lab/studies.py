"""Series of runs: what `make report` and `make bonus` train, and what the shipped models came from.

A study is a list of commands, each with the file that it leaves when it is done. Each command runs in a process of its
own, as a person would type it; what is done already is skipped, and a run that was interrupted is resumed.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chainrule.atomic import write_bytes
from chainrule.data.reading import say
from chainrule.errors import ChainruleError, ModelError
from chainrule.lab.recipes import Preset
from chainrule.stopping import Interrupt

BONUS_STEPS = 1600
"""Half the steps of the quick preset, since there are many runs."""
SEEDED = ("pixelcnn-made", "gated-made", "class-conditional", "iqn", "image-gpt", "pixelsnail")
"""Models that are compared closely, and so trained with three seeds."""
SINGLE = ("pixelcnn", "gated", "logistic", "grayscale")
TIME_STEPS = {
    "gated-made": 1300,
    "pixelcnn": 1800,
    "gated": 1350,
    "class-conditional": 1125,
    "grayscale": 850,
    "iqn": 1350,
    "logistic": 1375,
    "image-gpt": 450,
    "pixelsnail": 1075,
}
"""Steps that took as long as the `BONUS_STEPS` of pixelcnn-made when the recorded runs were made: half of what
`chainrule bench steps` printed, which counts from the preset's 3200, on one thread with AVX-512 bf16; for the two
models with attention on two with AVX2. Other processors have other numbers."""


@dataclass(frozen=True)
class Job:
    """One command of a study; `{out}` in it stands for the study's folder."""

    done: str
    """The file that is there when it is done, below the study's folder."""
    command: str
    """What follows `chainrule`. Where it has no --out, what it prints goes into that file."""


def training(folder: str, recipe: str, flags: str = "") -> Job:
    """A training run into a folder of the study's."""
    return Job(f"{folder}/result.json", f"train {recipe} {flags} --out {{out}}/{folder}")


def parts(preset: Preset) -> Iterator[Job]:
    """The assignment's parts 1 to 3, part 2.1 with each encoding, and the codec."""
    for recipe in ("warmup", "2d-mlp", "2d-made", "pixelcnn", "pixelcnn-made"):
        yield training(recipe, recipe, f"--preset {preset}")
    for encoding in ("scalar", "embedding"):
        yield training(f"2d-mlp-{encoding}", "2d-mlp", f"--preset {preset} --model.encoding {encoding}")
    yield Job("codec/result.json", "bench codec --model {out}/pixelcnn-made --out {out}/codec")


def bonus(preset: Preset) -> Iterator[Job]:
    """Other models at the same number of steps, at the same time, on other data; on the full preset, each once."""
    if preset == "full":
        yield from (training(f"full/{recipe}", recipe, "--preset full") for recipe in (*SEEDED, *SINGLE))
        return
    steps = f"--train.steps {BONUS_STEPS}"
    for name, recipe, seed in [*seeds(SEEDED), *seeds(SINGLE, 1)]:
        yield training(f"steps/{name}", recipe, f"{steps} --train.seed {seed}")
    for name, recipe, seed in [*seeds(TIME_STEPS, 1), *further(["gated-made", "image-gpt", "pixelsnail"])]:
        yield training(f"time/{name}", recipe, f"--train.steps {TIME_STEPS[recipe]} --train.seed {seed}")
    for recipe in ("pixelcnn-made", "logistic"):
        yield training(f"photos/{recipe}", recipe, f"--data photos {steps}")
    for name, recipe, seed in seeds(["pixelcnn-made", "gated-made", "logistic"]):
        yield training(f"digits/{name}", recipe, f"--data digits {steps} --train.seed {seed}")
    for name, recipe, seed in seeds(["iqn", "pixelcnn-made"]):
        yield Job(f"quality/{recipe}-{seed}.json", f"quality {{out}}/steps/{name} --json")
    yield Job("steps.json", "bench steps --json")


def shipped(preset: Preset) -> Iterator[Job]:
    """The models of coloured digits that ship, those that they began from, and the best factorised one."""
    yield training("colored-mnist", "pixelcnn-made", "--train.steps 4000")
    yield training("pixelcnn-made-cpu", "pixelcnn-made-cpu")
    yield training("pixelcnn-made-long-cpu", "pixelcnn-made-long-cpu", "--init {out}/pixelcnn-made-cpu")
    first = (
        "--init {out}/pixelcnn-made-cpu --train.steps 30000 --train.lr 0.02 --train.no-redraw --train.eval-every 1500"
    )
    yield training("pixelcnn-cpu-1", "pixelcnn-cpu", first)
    yield training("pixelcnn-cpu-2", "pixelcnn-cpu", "--init {out}/pixelcnn-cpu-1 --train.steps 18000")
    yield training("pixelcnn-cpu", "pixelcnn-cpu", "--init {out}/pixelcnn-cpu-2")
    yield training("pixelsnail-1", "pixelsnail-long", "--init {out}/pixelcnn-made-long-cpu")
    second = "--train.lr 0.006 --train.warmup 50 --train.ema 0.998 --train.steps 3100 --train.eval-every 1550"
    yield training("pixelsnail-2", "pixelsnail-long", f"--init {{out}}/pixelsnail-1 {second}")


STUDIES: dict[str, Callable[[Preset], Iterable[Job]]] = {"parts": parts, "bonus": bonus, "shipped": shipped}


def seeds(recipes: Iterable[str], count: int = 3) -> Iterator[tuple[str, str, int]]:
    """(name, recipe, seed) for each recipe and several seeds: the first is named after the recipe.

    >>> list(seeds(["iqn"], 2))
    [('iqn', 'iqn', 0), ('iqn-1', 'iqn', 1)]
    """
    for recipe in recipes:
        for seed in range(count):
            yield (f"{recipe}-{seed}" if seed else recipe), recipe, seed


def further(recipes: Iterable[str]) -> list[tuple[str, str, int]]:
    """The same without the first seed of each.

    >>> further(["iqn"])
    [('iqn-1', 'iqn', 1), ('iqn-2', 'iqn', 2)]
    """
    return [found for found in seeds(recipes) if found[2]]


def run_study(name: str, out: str | Path, preset: Preset = "quick", *, dry: bool = False) -> list[Path]:
    """Do what is left to do of a study, in order; with `dry` only print the commands.

    Args:
        name: a key of `STUDIES`.
        out: the study's folder.
        preset: of its runs; `shipped` has but one.

    Returns:
        The run folders of the study.

    Raises:
        ModelError: there is no such study.
        ChainruleError: a command failed; what was wrong stands above on standard error.
        KeyboardInterrupt: after Ctrl-C; the same call continues.
    """
    if name not in STUDIES:
        raise ModelError(f"there is no study {name!r}: choose one of {', '.join(STUDIES)}")
    out = Path(out)
    jobs = list(STUDIES[name](preset))
    for job in jobs:
        if (out / job.done).exists():
            continue
        words = [word.format(out=out) for word in job.command.split()]
        folder = (out / job.done).parent
        if (folder / "checkpoint.pt").exists():
            words.append("--resume")
        if dry:
            print(shlex.join(["chainrule", *words]))
            continue
        say(f"==> chainrule {shlex.join(words)}")
        do(words, None if "--out" in words else out / job.done)
    return [out / job.done.removesuffix("/result.json") for job in jobs if job.done.endswith("/result.json")]


def do(words: list[str], printed: Path | None) -> None:
    """Run one command in a process of its own; what it prints goes to standard error, or into a file."""
    command = [sys.executable, "-m", "chainrule", *words]
    to = 2 if printed is None else subprocess.PIPE
    running: list[subprocess.Popen] = []
    # signals reach the command through us alone, once each, and it is given the time for a checkpoint

    def pass_on(number: int) -> None:
        for process in running:
            process.send_signal(number)

    with Interrupt(pass_on) as interrupt:
        running.append(subprocess.Popen(command, stdout=to, start_new_session=True))
        output, _ = running[0].communicate()
        status = running[0].returncode
    if interrupt.requested or status == 130:
        raise KeyboardInterrupt("chainrule: interrupted; the same command continues")
    if status:
        raise ChainruleError(f"chainrule {shlex.join(words)} failed: put right what it says above, and repeat")
    if printed is not None:
        write_bytes(printed, output)
