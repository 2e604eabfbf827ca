import pytest
import torch

from pydyn.ops.extension import EXTENSION


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/gpu" not in item.path.as_posix():
            continue
        item.add_marker(pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))
        reason = EXTENSION.problem or "the extension is built without CUDA kernels"
        item.add_marker(pytest.mark.skipif(EXTENSION.cuda_version is None, reason=reason))
