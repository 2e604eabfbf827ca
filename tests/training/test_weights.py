"""Weights in their file, and what is told of a file that changed."""

import pytest
import torch
from safetensors.torch import save_file

from pydyn.errors import RunError
from pydyn.models.backbones import state_digest
from pydyn.training.weights import WEIGHTS, load_weights, save_weights


@pytest.fixture
def weights():
    return {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([float("nan"), 1.0]), "steps": torch.tensor(3)}


def test_weights_come_back_as_they_were(weights, tmp_path):
    save_weights(tmp_path, weights, run="mine")
    found = load_weights(tmp_path)
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name].nan_to_num(9), weights[name].nan_to_num(9)) for name in weights)


def test_a_flipped_bit_is_refused_or_changes_no_weight(weights, tmp_path):
    save_weights(tmp_path, weights, run="mine")
    whole = (tmp_path / WEIGHTS).read_bytes()
    values = 8 + int.from_bytes(whole[:8], "little")
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        (tmp_path / WEIGHTS).write_bytes(changed)
        try:
            found = load_weights(tmp_path)
        except RunError as error:
            assert str(error).endswith("remove the Run's folder and run the workflow again")
        else:  # as in the Run's name
            assert position < values
            assert state_digest(found) == state_digest(weights)


def test_a_file_that_was_cut_is_refused(weights, tmp_path):
    save_weights(tmp_path, weights, run="mine")
    whole = (tmp_path / WEIGHTS).read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / WEIGHTS).write_bytes(whole[:length])
        with pytest.raises(RunError, match=r"weights\.safetensors cannot be read"):
            load_weights(tmp_path)


def test_files_of_versions_that_wrote_no_digest_are_read(weights, tmp_path):
    save_file(weights, tmp_path / WEIGHTS, metadata={"pydyn": '{"run": "mine"}'})
    assert torch.equal(load_weights(tmp_path)["a"], weights["a"])
