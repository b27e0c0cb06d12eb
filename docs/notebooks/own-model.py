# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {name: python3, display_name: Python 3}
# ---

# %% [markdown]
# # A model of your own, in forty lines
#
# An image model is a *trunk*, which leads to the features φ of a pixel, and a *head*, which makes distributions of
# them. This page writes a new head. Sampling, completion, scoring, exact mode and compression then come for nothing,
# because all of them are one walk over the entries, and the head says how a step of it goes.
#
# This page is a script, [own-model.py](own-model.py): run it, or open it in Jupyter with jupytext.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import chainrule as cr
from chainrule.data import Dataset
from chainrule.heads import HEADS, Head
from chainrule.nn import one_hot
from chainrule.sampling import score

QUICK = "CHAINRULE_QUICK" in os.environ  # the tests set it: fewer steps, the same page
STEPS = 60 if QUICK else 600

# %% [markdown]
# ## The idea
#
# The library has two softmax heads for the channels of a pixel. The factorised one makes them independent. The MADE
# lets each depend on all earlier ones. In between lies a Markov chain: each channel depends on the channel before it.
#
#     p(x_i | x_<i) = ∏_c p(x_i^c | x_i^{c−1}, φ(x_<i))
#
#     logits of channel c  =  W_c φ  +  T_c e(x_i^{c−1})          e: one-hot vector
#
# The tables T_c are tiny, one number for each pair of levels.
#
# ## The head
#
# Five methods. `forward` gives all conditionals of whole pixels in one pass, for training; `start`, `logits` and
# `observe` give the same ones by one, for walks; `loss` is inherited: −log p. `composes_exactly` promises that nothing
# is computed here but linear layers, sums and ReLUs, of which the library knows the exact forms; that is what makes
# the model compress.


# %%
class ChainHead(Head):
    """Each channel of a pixel depends on the channel before it."""

    composes_exactly = True

    def __init__(self, channels, levels, filters, encoding):
        super().__init__(channels, levels, filters, encoding)
        self.output = nn.Linear(filters, channels * levels)
        self.links = nn.ModuleList(nn.Linear(levels, levels, bias=False) for _ in range(channels - 1))
        for link in self.links:
            link.one_hot = levels  # what it reads, for the exact form
            nn.init.zeros_(link.weight)  # the channels are independent at first

    def outer_layers(self):
        return (self.output, *self.links)

    def own(self, features):
        return self.output(features).unflatten(-1, (self.channels, self.levels))

    def forward(self, features, v):
        logits, before = self.own(features), one_hot(v, self.levels)
        linked = [logits[..., 0, :]]
        for c, link in enumerate(self.links):
            linked.append(logits[..., c + 1, :] + link(before[..., c, :]))
        return torch.stack(linked, -2)

    def start(self, features, before=None):
        own = self.own(features)
        return {"own": own, "channel": 0, "logits": own[:, 0]}

    def logits(self, state):
        return state["logits"]

    def observe(self, state, value):
        c, own = state["channel"] + 1, state["own"]
        link = self.links[c - 1](one_hot(value.to(own.dtype), self.levels))
        return {"own": own, "channel": c, "logits": own[:, c] + link}


HEADS["chain"] = ChainHead

# %% [markdown]
# That is all. Any trunk goes with it: `"masked"`, `"gated"`, `"attention"`.
#
# ## Data
#
# Drawn on the spot, so that the page runs anywhere: 12×12 pixels with a coloured disc on a coloured ground, three
# channels of three levels. Six colours occur of 27 possible ones: knowing red tells much about green.


# %%
def discs(n, seed, side=12):
    """(n, 3, side, side) levels 0 … 2: a disc of one palette colour on another."""
    rng = np.random.RandomState(seed)
    palette = np.array([[0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 1, 2], [2, 2, 2], [1, 0, 1]])
    row, column, radius = (rng.uniform(low, high, (n, 1, 1)) for low, high in ((3, 8), (3, 8), (2, 4)))
    y, x = np.mgrid[:side, :side]
    inside = (y - row) ** 2 + (x - column) ** 2 < radius**2
    first = rng.randint(0, 6, n)
    second = (first + rng.randint(1, 6, n)) % 6
    colours = np.where(inside[..., None], palette[first][:, None, None], palette[second][:, None, None])
    return torch.from_numpy(colours.transpose(0, 3, 1, 2).astype(np.uint8))


data = Dataset("discs", levels=3, train=discs(4000, 0), validation=discs(200, 1), test=discs(400, 2))

# %% [markdown]
# ## Does it obey the laws?
#
# Before training, two checks that every model of the library passes. The pass over the whole image and the walk from
# entry to entry must give the same probabilities; and over a space small enough to write down, they must sum to 1.

# %%
torch.manual_seed(0)
model = cr.ImageModel((3, 1, 2), 2, "masked", "chain", filters=8, blocks=1).double()
with torch.no_grad():
    for weight in model.parameters():
        weight.normal_(0, 0.5)
everything = torch.cartesian_prod(*[torch.arange(2)] * 6).view(-1, 3, 1, 2)
total = model.log_prob(everything).exp().sum().item()
by_walk = score(model, everything).flatten(1).sum(1)
difference = (by_walk - model.log_prob(everything)).abs().max().item()
print(f"sum over all {len(everything)} outcomes: {total:.12f}")
print(f"largest difference to the walk: {difference:.1e} nats")

# %% [markdown]
# ## Is it any good?
#
# The same trunk and the same training with the three heads. The chain should lie between the other two. It cannot reach
# the MADE here: three of the six colours have no green, and what red had to say of blue is forgotten at green.

# %%
heads = {}
for name in ("factorised", "chain", "made"):
    torch.manual_seed(0)
    heads[name] = model = cr.ImageModel(data.shape, data.levels, "masked", name, filters=32, blocks=3)
    settings = {"batch_size": 16, "optimizer": "muon", "lr": 0.02, "schedule": "cosine", "warmup": 10}
    cr.fit(model, data, steps=STEPS, eval_every=max(STEPS // 4, 1), quiet=True, **settings)
    weights = sum(weight.numel() for weight in model.parameters())
    print(f"{name:10}  {weights:6,} weights  {cr.bits_per_dim(model, data):.4f} bits/dim")

# %% [markdown]
# ## It samples, completes, compresses
#
# Top row: samples. Look at the edges, where colours appear that the palette does not have: the chain's forgetfulness.
# Below, the upper six rows of one test image are given, and the rest is drawn nine times.

# %%
model, draw = heads["chain"], torch.Generator().manual_seed(0)
samples = model.sample(10, generator=draw)
known = torch.arange(12).view(-1, 1) < 6
completed = model.complete(data.test[:1].repeat(9, 1, 1, 1), known, generator=draw)
figure, panels = plt.subplots(2, 10, figsize=(10, 2.2), layout="constrained")
for axes, image in zip(panels.flat, torch.cat([samples, data.test[:1], completed]), strict=True):
    axes.imshow(image.permute(1, 2, 0).numpy() * 127)
    axes.set_axis_off()

# %% [markdown]
# The archive is decoded with integer probabilities of the model's exact form. Its certificate says that no sum in it
# can round, on any machine:

# %%
images = data.test[: 20 if QUICK else 400].permute(0, 2, 3, 1).numpy()
archive = cr.compress(model, images)
assert (cr.decompress(model, archive) == images).all()
print(f"{len(images)} images: {len(archive):,} bytes, {8 * len(archive) / images.size:.4f} bits/dim with headers")

# %% [markdown]
# ## Where to put it
#
# In the library a head is one file in `heads/`, one line in `HEADS` and one line in `tests/laws.py`; all laws are then
# tested for it. [Contributing](../contributing.md) has the same for trunks, layers, data sets and optimisers. A head
# that computes more than linear layers and sums needs an integer form of that part: `heads/mixture.py` and
# `fixedpoint/exact_logistic.py` show one.
#
# **Try it**: let each channel depend on *all* before it by one more table, and see how near that comes to the MADE.
