# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {name: python3, display_name: Python 3}
# ---

# %% [markdown]
# # Part 2: two variables
#
# Two ways to write p(x₁, x₂) = p(x₁) p(x₂ | x₁), a network for the conditional and a MADE for both at once. The joint
# distribution is known here, so the models can be compared with the truth itself, without sampling noise.
#
# This page is a script, [part2.py](part2.py): run it, or open it in Jupyter with jupytext.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import torch

import chainrule as cr
from chainrule import metrics
from chainrule.data import two_dimensional
from chainrule.evaluation import log2_joint

QUICK = "CHAINRULE_QUICK" in os.environ  # the tests set it: fewer steps, the same page
STEPS = 60 if QUICK else 1000
_ = torch.manual_seed(0)

# %% [markdown]
# ## The data
#
# 100,000 pairs from a distribution over 200×200 cells, whose density is a portrait of Grace Hopper. 70,000 training
# pairs cannot fill 40,000 cells: a table, as in part 1, would mostly remember which cells happened to be hit.

# %%
data = two_dimensional()
entropy = metrics.entropy_bits(data.truth) / 2
print(f"entropy of the truth: {entropy:.3f} bits/dim; uniform: {np.log2(200):.3f}")

# %% [markdown]
# ## An MLP for the second variable
#
#     p(x₁)       = softmax(θ)[x₁]
#     p(x₂ | x₁)  = softmax(MLP(x₁))[x₂]
#
# x₁ enters as a one-hot vector. Training moves each pair by a little noise whenever it is drawn (`jitter`, in levels):
# the truth is smooth, so a point may stand for its neighbourhood. Without it this model overfits.

# %%
settings = {"steps": STEPS, "batch_size": 1000, "lr": 3e-3, "schedule": "cosine", "jitter": 1.5, "quiet": True}
mlp = cr.ConditionalMLP(data.levels, hidden=(128, 128))
history = cr.fit(mlp, data, eval_every=max(STEPS // 4, 1), **settings)
print(f"MLP:  {cr.bits_per_dim(mlp, data):.3f} bits/dim on test data")

# %% [markdown]
# ## A MADE for both
#
# A MADE gives both conditionals in one pass of one network. What makes that legal are masks on its weights: the
# outputs for x₁ read nothing, those for x₂ read x₁ and nothing else. Each hidden unit has a *rank*, the number of
# variables that it may see. With two variables all hidden units have rank 1. With four it looks like this; a
# connection is dark:

# %%
small = cr.MADE((4,), 3, hidden=(12, 12)).network
layers = {"x to hidden": small.layers[0], "hidden to hidden": small.layers[1], "hidden to logits": small.output}
figure, panels = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
for axes, (title, layer) in zip(panels, layers.items(), strict=True):
    axes.imshow(layer.mask.numpy(), cmap="Blues", vmax=1.4, aspect="auto")
    axes.set(title=title, xlabel="inputs", ylabel="outputs")

# %% [markdown]
# Read the third mask from the top: the three logits of x₁ have an empty row, those of x₂ see the units of rank 1, and
# so on. Masks compose: if every layer keeps to the ranks, the network does.

# %%
made = cr.MADE((2,), data.levels)
cr.fit(made, data, eval_every=max(STEPS // 4, 1), **settings)
print(f"MADE: {cr.bits_per_dim(made, data):.3f} bits/dim on test data")

# %% [markdown]
# Is the mask right? Ask the gradient. The logits of x₁ must have none with respect to x₁ or x₂, those of x₂ one with
# respect to x₁ alone.

# %%
x = torch.tensor([[50.0, 120.0]], requires_grad=True)
logits = made._logits(x)
for d in range(2):
    (gradient,) = torch.autograd.grad(logits[0, d].square().sum(), x, retain_graph=True)
    print(f"logits of x{d + 1} depend on", [f"x{j + 1}" for j in range(2) if gradient[0, j] != 0] or "nothing")

# %% [markdown]
# ## Against the truth
#
# Both models can be evaluated on all 40,000 outcomes, so the cross-entropy is exact. It exceeds the entropy by half of
# the KL divergence (half, because there are two variables):
#
#     −½ Σ p log₂ q  =  H(p) / 2  +  KL(p ‖ q) / 2
#
# Compare faces: what is blurred in a model's picture is the smoothness that kept it from overfitting.

# %%
figure, panels = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
tables = {"truth": np.log2(np.maximum(data.truth, 1e-12))} | {"MLP": log2_joint(mlp), "MADE": log2_joint(made)}
for axes, (title, log2_q) in zip(panels, tables.items(), strict=True):
    exact = metrics.cross_entropy_bits(data.truth, log2_q) / 2
    axes.imshow(2**log2_q, cmap="magma", vmin=0, vmax=np.quantile(data.truth, 0.999))
    axes.set(title=f"{title}: {exact:.3f} bits/dim", xticks=[], yticks=[])

# %% [markdown]
# **Try it**: set `jitter` to 0 and look at the faces again; or give the MLP x₁ as a number (`encoding="scalar"`), and
# find out why it is worse.
