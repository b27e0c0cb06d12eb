"""The commands that draw from trained models: sample, complete."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from chainrule.cli.common import Device, ModelName, parse, placed
from chainrule.cli.installation import say_once_without_compiled_code
from chainrule.cli.run_data import run_offset
from chainrule.errors import DataError, ModelError

if TYPE_CHECKING:
    from chainrule.models import AutoregressiveModel


def sample(args: list[str]) -> None:
    """Draw from a model: chainrule sample MODEL -n 100 -o samples.png --seed 0"""

    def sample(
        model: ModelName,
        n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 100,
        out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
        seed: int = 0,
        label: int | None = None,
        method: Literal["cached", "naive"] = "cached",
        size: tuple[int, int] | None = None,
        exact: bool = False,
        device: Device = "cpu",
    ) -> None:
        """Draw samples from a model, exactly.

        Args:
            model: A run folder, a folder written by save_pretrained, or the name of a shipped model.
            n: How many.
            out: A picture (.png, images only: one as it is, more as a sheet of ten columns, three times as large) or an
                array (.npy; images as N, H, W, C). Without it, samples that are not images are printed, one a line.
            seed: The same seed gives the same samples.
            label: For a model that is conditioned on a class: the class of every sample; by default all in turn.
            method: cached takes one pass in all; naive takes a full pass for each entry, and gives the same.
            size: Height and width of the samples, for a model of pictures of any size.
            exact: Draw from the model's exact form: the same seed gives the same samples on every machine, and in the
                page of chainrule demo.
            device: Where the model computes: cpu, cuda (a GPU), or auto for a GPU if there is one.
        """
        import torch

        from chainrule import zoo

        if n < 1:
            raise DataError(f"cannot draw {n} samples: ask for at least 1")
        say_once_without_compiled_code()
        loaded = placed(chosen(zoo.load(model), exact), device)
        check_output(out, loaded)
        context = loaded.example_context(n) if label is None else torch.full((n,), label)
        if size is None and loaded.any_size:
            raise ModelError(f"{model} draws pictures of any size: say which, as in --size 64 96 (height and width)")
        x = loaded.sample(n, context, torch.Generator().manual_seed(seed), method, size).cpu()
        write_events(x, loaded, out, run_offset(model))

    parse(sample, "sample", args)


def complete(args: list[str]) -> None:
    """Draw the rest of an image: chainrule complete MODEL IMG --keep-rows 14 -o out.png"""

    def complete(
        model: ModelName,
        image: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IMG")],
        keep_rows: int | None = None,
        mask: Path | None = None,
        n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1,
        out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("completed.png"),
        seed: int = 0,
        label: int | None = None,
        exact: bool = False,
        device: Device = "cpu",
    ) -> None:
        """Keep part of an image and draw the rest, each pixel given everything before it.

        Args:
            model: A run folder, a folder written by save_pretrained, or the name of a shipped model.
            image: A picture, of the model's size unless it takes any.
            keep_rows: Keep this many rows at the top.
            mask: Or keep where this picture of the same size is white (known pixels after unknown ones are put in place
                as they come, and not looked at before).
            n: How many completions; more than one become a sheet.
            out: A picture, or an array (.npy) of levels.
            seed: The same seed gives the same completions.
            label: For a model that is conditioned on a class: the class of the image; by default all in turn.
            exact: Draw from the model's exact form: the same seed gives the same completions on every machine, and in
                the page of chainrule demo.
            device: Where the model computes: cpu, cuda (a GPU), or auto for a GPU if there is one.
        """
        import numpy as np
        import torch

        from chainrule import data, zoo
        from chainrule.data.reading import say

        say_once_without_compiled_code()
        loaded = placed(chosen(zoo.load(model), exact), device)
        if len(loaded.shape) != 3:
            raise ModelError(f"{model} models events of shape {loaded.shape}: only images can be completed")
        if (keep_rows is None) == (mask is None):
            raise DataError("say what is known of the image: either --keep-rows or --mask")
        if n < 1:
            raise DataError(f"cannot draw {n} completions: ask for at least 1")
        check_output(out, loaded)
        if any(path is not None and path.exists() and path.samefile(out) for path in (image, mask) if out.exists()):
            raise DataError(f"{out} is what is to be completed: give the result another name")
        event = data.read_event(image, loaded.levels, loaded.shape, loaded.pixel_values)
        x = torch.as_tensor(event.levels, dtype=torch.long)
        height, width = x.shape[1:]
        known = torch.zeros(height, width, dtype=torch.bool)
        if keep_rows is not None:
            if not 0 <= keep_rows <= height:
                raise DataError(f"--keep-rows is {keep_rows}: the image has {height} rows")
            known[:keep_rows] = True
        elif mask is not None:
            pixels = data.read_pixels(mask).pixels
            if pixels.shape[:2] != (height, width):
                raise DataError(f"{mask} is {pixels.shape[1]}×{pixels.shape[0]}, the image is {width}×{height}")
            known = torch.from_numpy(pixels.max(-1) > 127)
        batch = x.expand(n, *x.shape)
        context = loaded.example_context(n) if label is None else torch.full((n,), label)
        y = loaded.complete(batch, known, context, torch.Generator().manual_seed(seed)).cpu()
        for note in event.notes:
            say(f"{note} What is kept is written as it was." if out.suffix.lower() == ".png" else note)
        if out.suffix.lower() == ".png":  # what is kept is kept, also where the model has no level for it
            drawn = data.grid_of(loaded.levels, loaded.pixel_values)[y.numpy()]
            shown = np.where(known.numpy(), event.pixels, drawn)
            if n == 1:
                data.write_image(shown[0], 256, out)
            else:
                data.save_grid(shown, 256, out)
            print(out)
        else:
            write_events(y, loaded, out, 0)

    parse(complete, "complete", args)


def chosen(model: AutoregressiveModel, exact: bool) -> AutoregressiveModel:
    """A model, or its exact form."""
    if not exact:
        return model
    from chainrule import fixedpoint

    return fixedpoint.exact(model)


def check_output(out: Path | None, model: AutoregressiveModel) -> None:
    """Refuse an output that cannot be written before any work is done."""
    pictures = len(model.shape) == 3
    if out is None:
        if pictures:
            raise DataError("say where the images go: -o samples.png or -o samples.npy")
        return
    if out.suffix.lower() not in (".npy", ".png") or (out.suffix.lower() == ".png" and not pictures):
        kinds = ".png or .npy" if pictures else ".npy"
        raise DataError(f"cannot write {out}: the samples of this model go to a {kinds} file")
    if out.parent != Path() and not out.parent.is_dir():
        raise DataError(f"cannot write {out}: there is no folder {out.parent}")


def write_events(x: Any, model: AutoregressiveModel, out: Path | None, offset: int) -> None:
    """Samples to a picture, an array, or standard output."""
    import io

    import numpy as np

    from chainrule import data
    from chainrule.atomic import write_bytes
    from chainrule.data.reading import say

    if out is None:
        for event in x.flatten(1).tolist():
            print(" ".join(str(value + offset) for value in event))
    elif out.suffix.lower() == ".png":
        scale = 1 if len(x) == 1 else 3  # one alone is a picture as any other, which `complete` takes
        data.save_grid(x, model.levels, out, scale=scale, pixel_values=model.pixel_values)
        if note := data.sheet_note(model.shape, model.levels):
            say(note)
        print(out)
    else:
        small = np.uint8 if model.levels + offset <= 256 else np.int32
        array = data.to_nhwc(x) if len(model.shape) == 3 else x.cpu().numpy() + offset
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(array).astype(small))
        write_bytes(out, buffer.getvalue())
        print(out)
