"""What all tests share: one thread, and small models of every class in the registry."""

from __future__ import annotations

import pytest
import torch

from laws import CASES, randomised

torch.set_num_threads(1)


@pytest.fixture(params=[pytest.param(case, id=case.name) for case in CASES])
def case(request):
    """One small model's recipe: see `laws.Case`."""
    return request.param


@pytest.fixture
def model(case):
    """A small model in float64 with random weights: every case in turn."""
    return randomised(case.build())
