"""Every named experiment: which data, which model, how it is trained.

A recipe is a value, not a script: `chainrule train NAME` runs it, and every field can be overridden on the command
line. The presets: `quick` fits two CPU cores and a quarter of an hour for all of them together, `full` is the
assignment's size and training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

from chainrule.errors import ModelError
from chainrule.models import (
    MADE,
    AutoregressiveModel,
    ConditionalMLP,
    GatedPixelCNN,
    GatedPixelCNNMADE,
    GenerativeModel,
    GrayscalePixelCNN,
    Histogram,
    LogisticPixelCNN,
    PixelCNN,
    PixelCNNMADE,
    PixelIQN,
)
from chainrule.models.conditional_mlp import Encoding
from chainrule.training.config import TrainConfig

Preset = Literal["quick", "full"]


@dataclass(frozen=True)
class HistogramConfig:
    """A softmax histogram has nothing to choose."""

    def build(self, shape: tuple[int, ...], levels: int) -> AutoregressiveModel:
        expect_shape("a histogram", shape, (1,))
        return Histogram(levels)


@dataclass(frozen=True)
class ConditionalMLPConfig:
    encoding: Encoding = "onehot"
    """How the first entry enters the MLP: onehot, scalar or embedding."""
    hidden: tuple[int, ...] = (128, 128)
    """Widths of the hidden layers."""
    embedding: int = 32
    """Length of the learned vectors, with encoding embedding."""

    def build(self, shape: tuple[int, ...], levels: int) -> AutoregressiveModel:
        expect_shape("a ConditionalMLP", shape, (2,))
        return ConditionalMLP(levels, self.encoding, self.hidden, self.embedding)


@dataclass(frozen=True)
class MADEConfig:
    hidden: tuple[int, ...] = (128, 128)
    """Widths of the hidden layers."""

    def build(self, shape: tuple[int, ...], levels: int) -> AutoregressiveModel:
        return MADE(shape, levels, self.hidden)


@dataclass(frozen=True)
class PixelCNNConfig:
    filters: int = 128
    """Channels of the residual stream."""
    blocks: int = 12
    """Residual blocks."""
    layer_norm: bool = True
    """Normalise over the channels of a pixel in front of every block."""

    def build(self, shape: tuple[int, ...], levels: int) -> AutoregressiveModel:
        return PixelCNN(expect_image(shape), levels, self.filters, self.blocks, self.layer_norm)


@dataclass(frozen=True)
class PixelCNNMADEConfig(PixelCNNConfig):
    def build(self, shape: tuple[int, ...], levels: int) -> AutoregressiveModel:
        return PixelCNNMADE(expect_image(shape), levels, self.filters, self.blocks, self.layer_norm)


@dataclass(frozen=True)
class GatedPixelCNNConfig(PixelCNNConfig):
    classes: int = 0
    """Labels that the model is conditioned on; 0 for none."""

    def build(self, shape: tuple[int, ...], levels: int) -> AutoregressiveModel:
        return GatedPixelCNN(expect_image(shape), levels, self.filters, self.blocks, self.layer_norm, self.classes)


@dataclass(frozen=True)
class GatedPixelCNNMADEConfig(GatedPixelCNNConfig):
    def build(self, shape: tuple[int, ...], levels: int) -> AutoregressiveModel:
        return GatedPixelCNNMADE(expect_image(shape), levels, self.filters, self.blocks, self.layer_norm, self.classes)


@dataclass(frozen=True)
class GrayscalePixelCNNConfig(PixelCNNConfig):
    grays: int | None = None
    """Gray levels; None for as many as there are sums of the channels, up to 16."""

    def build(self, shape: tuple[int, ...], levels: int) -> AutoregressiveModel:
        return GrayscalePixelCNN(
            expect_image(shape), levels, self.filters, self.blocks, self.layer_norm, grays=self.grays
        )


@dataclass(frozen=True)
class PixelIQNConfig(PixelCNNConfig):
    embedding: int = 64
    """Cosines that the quantile's τ is embedded in."""

    def build(self, shape: tuple[int, ...], levels: int) -> GenerativeModel:  # type: ignore[override]
        return PixelIQN(expect_image(shape), levels, self.filters, self.blocks, self.layer_norm, self.embedding)


@dataclass(frozen=True)
class LogisticPixelCNNConfig(PixelCNNConfig):
    components: int = 10
    """Logistics in each pixel's mixture."""

    def build(self, shape: tuple[int, ...], levels: int) -> AutoregressiveModel:
        image = expect_image(shape)
        return LogisticPixelCNN(image, levels, self.filters, self.blocks, self.layer_norm, self.components)


ModelConfig = HistogramConfig | ConditionalMLPConfig | MADEConfig | PixelCNNConfig | PixelCNNMADEConfig
M = TypeVar("M", bound=ModelConfig)


@dataclass(frozen=True)
class Recipe(Generic[M]):
    """A named experiment."""

    name: str
    title: str
    data: str
    """A dataset's name, or a file or folder."""
    model: M
    train: TrainConfig
    validation: int | None = None
    """Images of the Hopper set that are held out for validation; None for 5,000."""
    levels: int | None = None
    """Levels that images of one's own are quantised to; None for as many as they have."""
    init: str | None = None
    """A model or run that the weights are taken from at first, as far as they have the same names and shapes."""
    preset: Preset = "quick"
    """The preset that this recipe started from."""


def expect_shape(what: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if tuple(shape) != wanted:
        raise ModelError(f"{what} models events of shape {wanted}, this data has {tuple(shape)}: choose another recipe")


def expect_image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ModelError(f"a PixelCNN models images, this data has events of shape {tuple(shape)}: use recipe 2d-made")
    return shape[0], shape[1], shape[2]


def warmup(preset: Preset) -> Recipe:
    train = TrainConfig(
        steps=2000,
        batch_size=200,
        lr=0.03,
        schedule="cosine",
        ema=0.99,
        eval_every=20,
        precision="float32",
        device="cpu",
    )
    return Recipe("warmup", "Part 1: softmax histogram", "warmup", HistogramConfig(), train)


TWO_D = TrainConfig(
    steps=2000,
    batch_size=1000,
    lr=3e-3,
    warmup=100,
    schedule="cosine",
    jitter=1.5,
    eval_every=100,
    precision="float32",
    device="cpu",
)


def two_d_mlp(preset: Preset) -> Recipe:
    return Recipe("2d-mlp", "Part 2.1: MLP", "portrait-2d", ConditionalMLPConfig(), replace(TWO_D, batch_size=2000))


def two_d_made(preset: Preset) -> Recipe:
    return Recipe("2d-made", "Part 2.2: MADE", "portrait-2d", MADEConfig(), TWO_D)


FULL_IMAGES = TrainConfig(steps=21_500, batch_size=128, lr=1e-3, eval_every=430)
QUICK_IMAGES = TrainConfig(
    steps=3200,
    batch_size=8,
    optimizer="muon",
    lr=0.02,
    warmup=100,
    schedule="cosine",
    ema=0.998,
    clip=1.0,
    eval_every=400,
)


def of_images(name: str, title: str, preset: Preset, *, full: PixelCNNConfig, quick: PixelCNNConfig) -> Recipe:
    """A model of the Hopper set in either preset: all are trained alike."""
    if preset == "full":
        return Recipe(name, title, "hopper-mnist", full, FULL_IMAGES, 5000)
    return Recipe(name, title, "hopper-mnist", quick, QUICK_IMAGES, 1000)


def pixelcnn(preset: Preset) -> Recipe:
    title = "Part 3: PixelCNN, factorised over channels"
    return of_images("pixelcnn", title, preset, full=PixelCNNConfig(), quick=PixelCNNConfig(64, 8))


def pixelcnn_made(preset: Preset) -> Recipe:
    title = "Part 3: PixelCNN-MADE"
    return of_images("pixelcnn-made", title, preset, full=PixelCNNMADEConfig(), quick=PixelCNNMADEConfig(64, 8))


def gated(preset: Preset) -> Recipe:
    """About as many parameters as the recipe pixelcnn of the same preset."""
    title = "Bonus: gated PixelCNN, factorised over channels"
    return of_images("gated", title, preset, full=GatedPixelCNNConfig(52, 10), quick=GatedPixelCNNConfig(24, 8))


def gated_made(preset: Preset) -> Recipe:
    """About as many parameters as the recipe pixelcnn-made of the same preset."""
    title = "Bonus: gated PixelCNN-MADE"
    full, quick = GatedPixelCNNMADEConfig(52, 10), GatedPixelCNNMADEConfig(24, 8)
    return of_images("gated-made", title, preset, full=full, quick=quick)


def class_conditional(preset: Preset) -> Recipe:
    """The recipe gated-made, told which digit it is."""
    title = "Bonus: gated PixelCNN-MADE given the class"
    full, quick = GatedPixelCNNMADEConfig(52, 10, classes=10), GatedPixelCNNMADEConfig(24, 8, classes=10)
    return of_images("class-conditional", title, preset, full=full, quick=quick)


def grayscale(preset: Preset) -> Recipe:
    """Two gated PixelCNNs, with about as many parameters together as the recipe gated-made's one."""
    title = "Bonus: PixelCNN with a gray image as auxiliary variable"
    full, quick = GrayscalePixelCNNConfig(36, 10), GrayscalePixelCNNConfig(16, 8)
    return of_images("grayscale", title, preset, full=full, quick=quick)


def iqn(preset: Preset) -> Recipe:
    """As many parameters, and with the same seed the same batches, as the recipe pixelcnn-made of the same preset."""
    title = "Bonus: PixelIQN, quantile regression"
    return of_images("iqn", title, preset, full=PixelIQNConfig(), quick=PixelIQNConfig(64, 8))


def logistic(preset: Preset) -> Recipe:
    title = "Bonus: PixelCNN with a discretised mixture of logistics"
    return of_images("logistic", title, preset, full=LogisticPixelCNNConfig(), quick=LogisticPixelCNNConfig(64, 8))


CPU_IMAGES = replace(QUICK_IMAGES, steps=7000, batch_size=16, eval_every=500)


def pixelcnn_made_cpu(preset: Preset) -> Recipe:
    """The full size, as well trained as two CPU cores can in three quarters of an hour; for every preset the same."""
    title = "Part 3: PixelCNN-MADE, full size, on a CPU"
    return Recipe("pixelcnn-made-cpu", title, "hopper-mnist", PixelCNNMADEConfig(), CPU_IMAGES, 1000)


def pixelcnn_made_long_cpu(preset: Preset) -> Recipe:
    """The same for an hour or two more, on a processor with bfloat16: from pixelcnn-made-1, digits on fresh crops."""
    title = "Part 3: PixelCNN-MADE, full size, longer on a CPU"
    train = replace(CPU_IMAGES, steps=60_000, lr=0.01, ema=0.999, redraw=True, eval_every=2000)
    return Recipe(
        "pixelcnn-made-long-cpu", title, "hopper-mnist", PixelCNNMADEConfig(), train, 1000, init="pixelcnn-made-1"
    )


def pixelcnn_cpu(preset: Preset) -> Recipe:
    """The full size, factorised: goes on from the shipped model, with digits on fresh crops and at half the rate.

    That model, pixelcnn-3, was the end of such a run itself, and its curve was still falling.
    """
    title = "Part 3: PixelCNN, factorised over channels, full size, on a CPU"
    train = replace(CPU_IMAGES, steps=20_000, lr=0.01, redraw=True, eval_every=1000)
    return Recipe("pixelcnn-cpu", title, "hopper-mnist", PixelCNNConfig(), train, 1000, init="pixelcnn-3")


RECIPES: dict[str, Callable[[Preset], Recipe]] = {
    "warmup": warmup,
    "2d-mlp": two_d_mlp,
    "2d-made": two_d_made,
    "pixelcnn": pixelcnn,
    "pixelcnn-made": pixelcnn_made,
    "gated": gated,
    "gated-made": gated_made,
    "class-conditional": class_conditional,
    "grayscale": grayscale,
    "iqn": iqn,
    "logistic": logistic,
    "pixelcnn-cpu": pixelcnn_cpu,
    "pixelcnn-made-cpu": pixelcnn_made_cpu,
    "pixelcnn-made-long-cpu": pixelcnn_made_long_cpu,
}


def get_recipe(name: str, preset: Preset = "quick") -> Recipe:
    """The recipe called `name`.

    Raises:
        ModelError: there is none.

    Example:
        >>> get_recipe("pixelcnn-made", "full").model
        PixelCNNMADEConfig(filters=128, blocks=12, layer_norm=True)
    """
    if name not in RECIPES:
        raise ModelError(f"there is no recipe {name!r}: choose one of {', '.join(RECIPES)}")
    return replace(RECIPES[name](preset), name=name, preset=preset)


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """The same recipe with another seed."""
    return replace(recipe, train=replace(recipe.train, seed=seed))
