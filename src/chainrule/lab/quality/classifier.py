"""A small convolutional classifier of coloured digits, in whose features samples are compared with real images.

What Inception is to photographs: a network that was trained to tell classes apart, whose penultimate layer describes an
image by what matters for its class. Fréchet distance and class entropy are taken there.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.data import Dataset
from chainrule.errors import DataError, ModelError
from chainrule.training.batches import batch_indices

SHAPE, LEVELS, CLASSES = (3, 28, 28), 4, 10
"""The events that the classifier knows, and how many digits there are."""
FEATURES = 64
"""Length of the penultimate layer."""
SHIPPED = "digits-classifier-1"
BATCH = 250


class DigitClassifier(nn.Module):
    """Four convolutions and two linear layers; 102,426 parameters.

    Levels enter scaled to [-1, 1]. Each half of the convolutions ends in a step of two pixels, so that the linear
    layers see 7×7.

    Example:
        >>> x = torch.zeros(2, 3, 28, 28, dtype=torch.uint8)
        >>> DigitClassifier().features(x).shape, DigitClassifier()(x).shape
        (torch.Size([2, 64]), torch.Size([2, 10]))
    """

    def __init__(self) -> None:
        super().__init__()
        widths = ((SHAPE[0], 32, 1), (32, 32, 2), (32, 32, 1), (32, 24, 2))
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, stride, padding=1, bias=False) for i, o, stride in widths)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _ in widths)
        self.hidden = nn.Linear(24 * 7 * 7, FEATURES)
        self.output = nn.Linear(FEATURES, CLASSES)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(self, x: Tensor) -> Tensor:
        """Integers (B, 3, 28, 28) in [0, 4) → the penultimate layer, (B, 64).

        Raises:
            DataError: the images have another shape, or values outside that range.
        """
        if tuple(x.shape[1:]) != SHAPE:
            raise DataError(f"the images have shape {tuple(x.shape[1:])}: the digit classifier takes {SHAPE}")
        if x.numel() and (int(x.min()) < 0 or int(x.max()) >= LEVELS):
            raise DataError(f"the images hold values from {int(x.min())} to {int(x.max())}: they must lie in 0 to 3")
        h = x.to(self.output.weight.dtype) * (2.0 / (LEVELS - 1)) - 1.0
        h = h.contiguous(memory_format=torch.channels_last)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            h = F.relu(norm(convolution(h)))
        return F.relu(self.hidden(h.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """Integers (B, 3, 28, 28) → logits of the ten digits, (B, 10)."""
        return self.output(self.features(x))


def train_classifier(
    dataset: Dataset, labels: Tensor, steps: int = 1000, seed: int = 0, batch_size: int = 128, lr: float = 3e-3
) -> DigitClassifier:
    """Train a classifier on a dataset's training split, by Adam with a learning rate that falls to zero.

    Args:
        dataset: coloured digits; only `train` is looked at.
        labels: the digits of the training split, integers of shape (N,).
        seed: initial weights and order of the data.

    Raises:
        DataError: there is not one label for each training image.
    """
    if labels.shape != (len(dataset.train),):
        raise DataError(f"{len(dataset.train)} training images have labels of shape {tuple(labels.shape)}")
    torch.manual_seed(seed)
    model = DigitClassifier().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=min(0.2, 100 / steps))
    for step in range(steps):
        rows = batch_indices(len(dataset.train), batch_size, seed, step)
        loss = F.cross_entropy(model(dataset.train[rows]), labels[rows].long())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def describe(model: DigitClassifier, x: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, 64) and class probabilities (N, 10) of many images, float64, batch by batch."""
    parts = [model.features(x[i : i + BATCH]) for i in range(0, len(x), BATCH)]
    features = torch.cat(parts) if parts else torch.zeros(0, FEATURES)
    return features.double(), model.output(features).double().softmax(-1)


def accuracy(model: DigitClassifier, x: Tensor, labels: Tensor) -> float:
    """The share of images whose likeliest class is the label."""
    return float((describe(model, x)[1].argmax(-1) == labels).double().mean())


def load_classifier(folder: str | Path | None = None) -> DigitClassifier:
    """The classifier of a folder, by default the one that ships with the package.

    Raises:
        ModelError: the folder holds no classifier.
    """
    root = Path(folder) if folder is not None else Path(str(resources.files("chainrule"))) / "shipped" / SHIPPED
    path = root / "model.safetensors"
    model = DigitClassifier()
    try:
        model.load_state_dict(safetensors.torch.load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path} is missing, damaged or no digit classifier: {reason}") from None
    return model.eval()
