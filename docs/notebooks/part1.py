# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {name: python3, display_name: Python 3}
# ---

# %% [markdown]
# # Part 1: one variable
#
# The smallest likelihood model there is: a table of logits. Everything that the later parts do, a loss in bits,
# validation, samples, compression, can be seen here with nothing in the way.
#
# This page is a script, [part1.py](part1.py): run it, or open it in Jupyter with jupytext.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import torch

import chainrule as cr
from chainrule.data import warmup

QUICK = "CHAINRULE_QUICK" in os.environ  # the tests set it: fewer steps, the same page
STEPS = 200 if QUICK else 2000
_ = torch.manual_seed(0)

# %% [markdown]
# ## The data
#
# 10,000 numbers from 1 to 100: a mixture of two Gaussians, put into bins. Inside, the values are levels 0 … 99. Of the
# 8,000 training values, 1,000 are held out to decide when to stop.

# %%
data = warmup()
print(data.levels, "levels;", len(data.train), len(data.validation), len(data.test), "values to train, validate, test")

# %% [markdown]
# ## The model
#
#     p(x) = exp θ_x / Σ_x' exp θ_x'
#
# One parameter θ for each level, all zero at first: the uniform distribution, which takes log₂ 100 = 6.64 bits a
# value. A loss that starts anywhere else has a bug.

# %%
model = cr.Histogram(data.levels)
print(f"untrained: {cr.bits_per_dim(model, data):.3f} bits")

# %% [markdown]
# Training minimises the mean of −log p(x) over the training set by stochastic gradient descent. Counting would give
# the same optimum in one pass. The point is the machinery, which does not change when counting is no longer possible.

# %%
history = cr.fit(model, data, steps=STEPS, batch_size=128, lr=0.05, eval_every=20, quiet=True)
print(f"best validation: {history.best_bits:.3f} bits at step {history.best_step} of {STEPS}")
print(f"test:            {cr.bits_per_dim(model, data):.3f} bits")

# %% [markdown]
# Look at the two curves. The training loss jumps, since each point is one batch of 128. The validation loss falls,
# then rises a little: with 100 parameters and 7,000 values, the table begins to learn the noise of its training set.
# `fit` keeps the weights of the lowest point.

# %%
figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
axes.plot(np.arange(1, len(history.train) + 1), history.train, linewidth=0.5, label="training, each batch")
axes.plot(*zip(*history.validation, strict=True), linewidth=2, label="validation")
axes.axvline(history.best_step, color="gray", linestyle=":", label="kept")
axes.set(xlabel="step", ylabel="bits", ylim=(5.5, 6.7))
_ = axes.legend()

# %% [markdown]
# ## Does it look like the data?
#
# A sample is the inverse of the cumulative distribution at a uniform random number. Compare the three panels: the
# model is smooth where the data are many; its samples are as ragged as any 1,000 draws are. That raggedness is no
# fault of the model.

# %%
samples = model.sample(1000, generator=torch.Generator().manual_seed(0))
pmf = model.log_pmf(data.test[:1])[0, 0].exp().detach()
everything = torch.cat([data.train, data.validation, data.test])
shown = {
    "data": torch.bincount(everything[:, 0].long(), minlength=100) / len(everything),
    "model": pmf,
    "1,000 samples": torch.bincount(samples[:, 0], minlength=100) / len(samples),
}
figure, panels = plt.subplots(1, 3, figsize=(10, 2.8), sharey=True, layout="constrained")
for axes, (title, heights) in zip(panels, shown.items(), strict=True):
    axes.bar(np.arange(100) + data.offset, heights.numpy(), width=1)
    axes.set(title=title, xlabel="x")

# %% [markdown]
# ## A likelihood is a file size
#
# A model that gives x the probability p(x) can store it in −log₂ p(x) bits, up to rounding, by an entropy coder. So
# "bits" is not a figure of speech: pack the test set, take away what the archive of a single value takes, its header,
# and compare the size with the likelihood.

# %%
values = data.test.numpy()
archive, header = cr.compress(model, values), len(cr.compress(model, values[:1]))
assert (cr.decompress(model, archive) == values).all()
bits = 8 * (len(archive) - header) / len(values)
print(f"{len(archive):,} bytes for {len(values):,} values, {header} of them header: {bits:.3f} bits a value")

# %% [markdown]
# **Try it**: shrink the training set by slicing (`dataclasses.replace(data, train=data.train[:500])`) and watch where
# the validation curve turns.
