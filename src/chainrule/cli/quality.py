"""The command that measures samples without a likelihood: quality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import tyro

from chainrule.cli.common import ModelName, parse, report_figures, report_rows
from chainrule.cli.run_data import open_data_of
from chainrule.errors import ChainruleError, DataError, ModelError

if TYPE_CHECKING:
    from chainrule.data import Dataset
    from chainrule.models import AutoregressiveModel


def quality(args: list[str]) -> None:
    """Compare samples of coloured digits with real ones: chainrule quality MODEL [-n 2000] [--json]"""

    def quality(
        model: ModelName,
        n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 2000,
        seed: int = 0,
        calibration_images: int = 250,
        data: str = "hopper-mnist",
        json: bool = False,
    ) -> None:
        """Measure samples by what needs no likelihood, beside real test images measured alike.

        The calibration of the model's conditionals is measured on test images: whether real values lie below the
        predicted quantiles as often as these say.

        Args:
            model: A run folder, a folder written by save_pretrained, or the name of a shipped model.
            n: Samples to draw.
            seed: The same seed gives the same samples, and the same test images for the calibration.
            calibration_images: Test images that the calibration is measured on; 0 leaves it out.
            data: A dataset's name, a file or a folder: coloured digits, 28×28 with 3 channels of 4 levels.
            json: Print JSON.
        """
        import torch

        from chainrule import zoo
        from chainrule.lab import quality

        loaded = zoo.load(model)
        if (loaded.shape, loaded.levels) != (quality.SHAPE, quality.LEVELS):
            raise ModelError(
                f"{model} models events of shape {loaded.shape} with {loaded.levels} levels: the digit classifier "
                f"measures those of shape {quality.SHAPE} with {quality.LEVELS}"
            )
        if n < 2:
            raise DataError(f"{n} samples cannot be measured: draw at least 2")
        if calibration_images < 0:
            raise DataError(f"the calibration cannot be measured on {calibration_images} images: 0 leaves it out")
        dataset = open_data_of(model, data, loaded)
        samples = loaded.sample(n, loaded.example_context(n), torch.Generator().manual_seed(seed)).cpu()
        rows = quality.compare(samples, dataset.test, quality.load_classifier())
        calibrated = calibration_figures(loaded, dataset, calibration_images, seed)
        if json:
            report_figures({"model": model, "data": data, "seed": seed, **calibrated, **rows}, True)
        else:
            report_rows(({"set": name, **row} for name, row in rows.items()), False)
            if calibrated:
                print()
                report_figures(calibrated, False)

    parse(quality, "quality", args)


def calibration_figures(model: AutoregressiveModel, dataset: Dataset, n: int, seed: int) -> dict[str, Any]:
    """The calibration on `n` test images that the seed chooses; nothing, and a note, where it cannot be measured."""
    import torch

    from chainrule.data.reading import say
    from chainrule.evaluation import context_of
    from chainrule.lab.quality import calibration

    rows = torch.randperm(len(dataset.test), generator=torch.Generator().manual_seed(seed))[:n]
    if not len(rows):
        return {}
    try:
        labels = context_of(model, dataset, "test")
        measured = calibration(model, dataset.test[rows], None if labels is None else labels[rows])
    except ChainruleError as error:  # a gray stage, or data without labels: the samples can be measured all the same
        say(f"the calibration is left out: {error}")
        return {}
    return {
        "calibration_images": len(rows),
        "calibration_error": measured.error,
        "uncertain_share": measured.uncertain,
        "uncertain_calibration_error": measured.uncertain_error,
    }
