"""The commands that measure trained models: evaluate, doctor."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import tyro

from chainrule.cli.common import Device, ModelName, parse, placed, report_figures
from chainrule.cli.run_data import open_data_of
from chainrule.errors import escaped


def evaluate(args: list[str]) -> None:
    """Measure a model's likelihood: chainrule evaluate MODEL [--data FILE] [--split test]"""

    def evaluate(
        model: ModelName,
        data: str | None = None,
        split: Literal["train", "validation", "test"] = "test",
        n: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None,
        redraw: bool = False,
        independent_channels: bool = False,
        split_bits: bool = False,
        device: Device = "cpu",
        json: bool = False,
    ) -> None:
        """Measure a model's exact likelihood on data.

        Args:
            model: A run folder, a folder written by save_pretrained, or the name of a shipped model.
            data: A dataset's name, a file or a folder of images; for a run folder, by default what it was trained on.
            split: Which part of the data.
            n: Measure the first so many events only.
            redraw: Draw the training split anew: digits on other crops than those the model may have been trained on.
            independent_channels: For a PixelCNN-MADE: also what it would need if it predicted each channel without the
                others of its pixel, the least that a factorised model of the same features can need.
            split_bits: On hopper-mnist: also how many bits of an image go to its background and to its digit, beside
                what any model has to pay.
            device: Where the model computes: cpu, cuda (a GPU), or auto for a GPU if there is one.
            json: Print JSON.
        """
        from chainrule import metrics, zoo
        from chainrule.evaluation import bits_per_dim, log2_joint, part_of
        from chainrule.lab.independence import independent_bits_per_dim
        from chainrule.lab.split_bits import split_bits as bits_by_part

        loaded = placed(zoo.load(model), device)
        dataset = part_of(open_data_of(model, data, loaded), split, n, redraw)
        figures: dict[str, Any] = {"model": model, "data": dataset.name, "split": split}
        if redraw:
            figures["redrawn"] = True
        figures["events"] = len(getattr(dataset, split))
        if independent_channels:  # first, since it may be refused
            independent = independent_bits_per_dim(loaded, dataset, split)
        entries = getattr(dataset, split).numel() / figures["events"]
        if split_bits:
            parts = bits_by_part(loaded, dataset, split)
            figures["bits_per_dim"] = (parts.background + parts.digit) / entries
        else:
            figures["bits_per_dim"] = bits_per_dim(loaded, dataset, split)
        figures["bits_per_event"] = figures["bits_per_dim"] * entries
        if independent_channels:
            figures["independent_channels_bits_per_dim"] = independent
        if split_bits:
            low, high = parts.digit_floor
            figures["background_bits"] = parts.background
            figures["background_floor_bits"] = parts.background_floor
            figures["digit_bits"] = parts.digit
            figures["digit_floor_bits_estimated"] = f"{low:g} to {high:g}"
            figures["bits_on_the_digits_pixels"] = parts.digit_pixels
        if dataset.truth is not None:
            log2_q = log2_joint(loaded)
            figures["exact_bits_per_dim"] = metrics.cross_entropy_bits(dataset.truth, log2_q) / 2
            figures["kl_bits"] = metrics.kl_bits(dataset.truth, log2_q)
        report_figures(figures | ({"notes": dataset.notes} if json else {}), json)

    parse(evaluate, "evaluate", args)


def doctor(args: list[str]) -> None:
    """Look over the installation, or a model and the certificate of its exact form: chainrule doctor [MODEL]"""

    def doctor(
        model: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[MODEL]")] = None, json: bool = False
    ) -> None:
        """Say what is installed, what is slow and why; or what a model is, with the proof that no sum of its exact form
        rounds, layer by layer.

        Args:
            model: A run folder, a folder written by save_pretrained, or the name of a shipped model; without it, the
                installation is looked over.
            json: Print JSON.
        """
        if model is not None:
            look_at_model(model, json)
            return
        from chainrule.cli.installation import look_over

        figures = look_over()
        if json:
            report_figures(figures, True)
            return
        slow = figures.pop("slow")
        report_figures(figures, False)
        print("\nWhat is slow, and why:\n" if slow else "\nNothing is slow here for a reason that can be told.")
        for sentence in slow:
            print(f"  {escaped(sentence)}.")

    parse(doctor, "doctor", args)


def look_at_model(model: str, as_json: bool) -> None:
    """What a model is, and its certificate, on standard output."""
    from dataclasses import asdict

    from chainrule import zoo
    from chainrule.cli.installation import compiled_code
    from chainrule.fixedpoint import certificate, exact, fingerprint, probe

    loaded = zoo.load(model)
    found = exact(loaded)
    rows = certificate(found)
    figures: dict[str, Any] = {
        "model": type(loaded).__name__,
        "shape": list(loaded.shape),
        "levels": loaded.levels,
        "parameters": sum(p.numel() for p in loaded.parameters()),
        "fingerprint": fingerprint(found).hex(),
        "probe": probe(found).hex(),
        "compiled code": compiled_code()[0] or "ready",
    }
    if as_json:
        report_figures(figures | {"certificate": [asdict(row) for row in rows]}, True)
        return
    report_figures(figures, False)
    width = max(len(row.layer) for row in rows) if rows else 0
    print("\nNo sum of the exact model can leave what its type represents exactly:\n")
    print(f"  {'layer':{width}}  carrier   worst case / limit")
    for row in rows:
        print(f"  {row.layer:{width}}  {row.carrier:8}  {row.worst / row.limit:.3f}")
