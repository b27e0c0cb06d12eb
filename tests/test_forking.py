"""What a forked child can do."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
import torch

from chainrule.codec import compress, decompress
from chainrule.zoo import load

PICTURES = np.random.RandomState(0).randint(0, 4, (32, 28, 28, 3)).astype(np.uint8)


@pytest.fixture
def threads():
    """Several of them, also where there is one processor."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.parametrize("what", ["decompress", "compress", "log_prob", "sample", "allocate"])
def test_a_child_of_a_process_that_computed(threads, what):
    """Not one that waits for ever for threads which the parent alone has."""
    model = load("colored-mnist")
    blob = compress(model, PICTURES)
    log_prob = model.log_prob(torch.from_numpy(PICTURES).permute(0, 3, 1, 2))
    assert torch.zeros(4_000_000).sum() == 0
    act = {
        "decompress": lambda: (decompress(model, blob) == PICTURES).all(),
        "compress": lambda: compress(model, PICTURES) == blob,
        "log_prob": lambda: torch.allclose(
            model.log_prob(torch.from_numpy(PICTURES).permute(0, 3, 1, 2)), log_prob, atol=0.1
        ),
        "sample": lambda: model.sample(2).shape == (2, 3, 28, 28),
        "allocate": lambda: torch.zeros(4_000_000).sum() == 0,
    }[what]
    if not (child := os.fork()):
        status = 1
        try:
            status = not act()
        finally:
            os._exit(status)
    deadline = time.monotonic() + 60
    while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.05)
    if not ended[0]:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended == (child, 0), "the child hung" if not ended[0] else "the child failed"
    assert torch.get_num_threads() == 4
