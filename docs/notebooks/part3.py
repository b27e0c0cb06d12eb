# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {name: python3, display_name: Python 3}
# ---

# %% [markdown]
# # Part 3: images
#
# A PixelCNN over coloured digits, and what a MADE over the channels of each pixel adds to it. Two short trainings show
# the difference. Then a model that ships with the package takes over, with hours of training behind it.
#
# This page is a script, [part3.py](part3.py): run it, or open it in Jupyter with jupytext.

# %%
import os
from dataclasses import replace

import matplotlib.pyplot as plt
import torch

import chainrule as cr
from chainrule.data import hopper_mnist, to_nhwc
from chainrule.evaluation import receptive_field

QUICK = "CHAINRULE_QUICK" in os.environ  # the tests set it: fewer steps, the same page
STEPS, SIZE = (30, {"filters": 16, "blocks": 2}) if QUICK else (400, {"filters": 48, "blocks": 5})
SHAPE, LEVELS = (3, 28, 28), 4
_ = torch.manual_seed(0)


def show(images, columns, title=""):
    """Images (N, 3, H, W) of levels in rows of `columns`."""
    rows = -(-len(images) // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(columns, rows + 0.3 * bool(title)), layout="constrained")
    for axes, image in zip(panels.flat, to_nhwc(torch.as_tensor(images)), strict=False):
        axes.imshow(image * 85)
        axes.set_axis_off()
    figure.suptitle(title)


# %% [markdown]
# ## The data
#
# MNIST's digits, each printed in negative on a random crop of a photograph, two bits a channel: 28×28×3 entries of
# four levels. A uniform guess takes 2 bits/dim. For speed, this page measures on the first few hundred images only.

# %%
data = hopper_mnist()
few = 8 if QUICK else 500
data = replace(data, validation=data.validation[:few], test=data.test[:few], labels={}, masks={})
show(data.test[:10], 10)

# %% [markdown]
# ## Masks, seen
#
# Pixels come in raster order. A PixelCNN makes the features φ of all pixels at once, by convolutions whose kernels are
# cut so that φ at a pixel depends on earlier pixels alone. The first kernel loses its centre as well (type A), all
# later ones keep it (type B). What a whole network sees can be asked of its gradient, at random weights:

# %%
figure, panels = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained")
for axes, model in zip(
    panels, (cr.PixelCNN(SHAPE, LEVELS, **SIZE), cr.GatedPixelCNN(SHAPE, LEVELS, **SIZE)), strict=True
):
    seen = receptive_field(model.double(), (0, 14, 14))
    axes.imshow((seen + 1e-12).clip(1e-9) ** 0.2, cmap="magma")
    axes.plot(14, 14, "s", markersize=5, color="deepskyblue")
    axes.set(title=type(model).__name__, xticks=[], yticks=[])

# %% [markdown]
# Three things to look for. Nothing below the marked pixel or to its right is seen: the network is causal. The
# brightness falls with the distance: at first a network looks nearby. And PixelCNN misses a wedge to the right above,
# its *blind spot*, which the two stacks of the gated network do not have.
#
# ## Channels: independent, or in turn?
#
#     PixelCNN        p(x) = ∏_i ∏_c p(x_i^c |          φ(x_<i))
#     PixelCNN-MADE   p(x) = ∏_i ∏_c p(x_i^c | x_i^<c,  φ(x_<i))
#
# In these images red, green and blue nearly always agree. A PixelCNN, whose channels are independent given the earlier
# pixels, has to pay for that three times. A MADE over the three channels, told φ, pays once.

# %%
train = {"steps": STEPS, "batch_size": 16, "optimizer": "muon", "lr": 0.02, "schedule": "cosine", "warmup": 10}
models = {}
for kind in (cr.PixelCNN, cr.PixelCNNMADE):
    torch.manual_seed(0)
    models[kind.__name__] = model = kind(SHAPE, LEVELS, **SIZE)
    cr.fit(model, data, eval_every=STEPS, quiet=True, **train)
    print(f"{kind.__name__}: {cr.bits_per_dim(model, data):.3f} bits/dim")

# %% [markdown]
# ## Samples
#
# One entry after the other, 2,352 of them. The walk keeps every feature that it has computed, so this takes about as
# long as one pass of the network and not 2,352. Look at single pixels: the PixelCNN's have odd colours, because their
# channels were drawn without knowing of each other.

# %%
for name, model in models.items():
    show(model.sample(10, generator=torch.Generator().manual_seed(0)), 10, f"{name}, {STEPS} steps")

# %% [markdown]
# ## A trained model takes over
#
# A few minutes show an order between models, not what they can do. `pixelcnn-made` ships with the package: the
# assignment's size, 67,000 steps, 0.056 bits/dim.

# %%
model = cr.load("pixelcnn-made")
show(model.sample(10 if QUICK else 30, generator=torch.Generator().manual_seed(0)), 10, "pixelcnn-made")

# %% [markdown]
# **Completion.** Given the upper half of a test image, the rest is drawn in order. Several draws from the same half
# show what the model is sure of: the background, mostly, and not always the digit.

# %%
known = torch.zeros(28, 28, dtype=torch.bool)
known[:14] = True
originals = data.test[:2].repeat_interleave(9, 0)
completed = model.complete(originals, known, generator=torch.Generator().manual_seed(1))
show(torch.cat([torch.cat([originals[:1], completed[:9]]), torch.cat([originals[9:10], completed[9:]])]), 10)

# %% [markdown]
# **Where the bits go.** −log₂ p of each pixel, bright where the model was surprised. The background is a crop of a
# photograph that it knows by heart: a few pixels tell it which crop, and the rest is free. What costs is where a
# stroke begins and ends.

# %%
x = data.test[:6]
bits = -model.site_log_probs(x).detach().sum(1) / torch.log(torch.tensor(2.0))
figure, panels = plt.subplots(2, 6, figsize=(9, 3.2), layout="constrained")
for image, cost, (above, below) in zip(to_nhwc(x), bits, panels.T, strict=True):
    above.imshow(image * 85)
    below.imshow(cost.numpy() ** 0.5, cmap="magma")
    below.set_xlabel(f"{cost.sum():.0f} bits")
    for axes in (above, below):
        axes.set(xticks=[], yticks=[])

# %% [markdown]
# **Compression.** The same bits, as a file. The exact form of the model gives the decoder the encoder's probabilities
# on any machine.

# %%
images = to_nhwc(data.test[: 4 if QUICK else 100])
archive = cr.compress(model, images)
assert (cr.decompress(model, archive) == images).all()
print(f"{len(images)} images, {images.size // 4:,} bytes at 2 bits a value, {len(archive):,} bytes in the archive")

# %% [markdown]
# **Try it**: `chainrule train pixelcnn-made` trains for two minutes on two cores and reaches 0.125 bits/dim;
# [results](../results.md) says what longer runs do.
