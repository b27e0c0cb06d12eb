"""The command that measures samples without a likelihood: quality."""

from __future__ import annotations

from typing import Annotated

import tyro

from chainrule.cli.common import ModelName, parse, report_figures, report_rows
from chainrule.cli.models import open_data_of
from chainrule.errors import DataError, ModelError


def quality(args: list[str]) -> None:
    """Compare samples of coloured digits with real ones: chainrule quality MODEL [-n 2000] [--json]"""

    def quality(
        model: ModelName,
        n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 2000,
        seed: int = 0,
        data: str = "hopper-mnist",
        json: bool = False,
    ) -> None:
        """Measure samples by what needs no likelihood, beside real test images measured alike.

        Args:
            model: A run folder, a folder written by save_pretrained, or the name of a shipped model.
            n: Samples to draw.
            seed: The same seed gives the same samples.
            data: A dataset's name, a file or a folder: coloured digits, 28×28 with 3 channels of 4 levels.
            json: Print JSON.
        """
        import torch

        from chainrule import quality, zoo

        loaded = zoo.load(model)
        if (loaded.shape, loaded.levels) != (quality.SHAPE, quality.LEVELS):
            raise ModelError(
                f"{model} models events of shape {loaded.shape} with {loaded.levels} levels: the digit classifier "
                f"measures those of shape {quality.SHAPE} with {quality.LEVELS}"
            )
        if n < 2:
            raise DataError(f"{n} samples cannot be measured: draw at least 2")
        test = open_data_of(model, data, loaded).test
        samples = loaded.sample(n, loaded.example_context(n), torch.Generator().manual_seed(seed)).cpu()
        rows = quality.compare(samples, test, quality.load_classifier())
        if json:
            report_figures({"model": model, "data": data, "seed": seed, **rows}, True)
        else:
            report_rows(({"set": name, **row} for name, row in rows.items()), False)

    parse(quality, "quality", args)
