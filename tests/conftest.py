"""What all tests share."""

import os
import random

import pytest
from hypothesis import settings

# Tests run side by side: one thread each, or they fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is no fault of what is tested.
settings.register_profile("pydyn", deadline=None)
settings.load_profile("pydyn")


@pytest.fixture
def global_generators():
    """A function that gives the states of the global generators, to compare: Python's, NumPy's and torch's."""
    import numpy as np  # which reads the environment above
    import torch

    def states():
        # NumPy's position included: a block of 624 numbers stays as it is while they are drawn.
        name, block, *position = np.random.get_state()  # noqa: NPY002
        return random.getstate(), name, block.tobytes(), position, torch.get_rng_state().numpy().tobytes()

    return states
