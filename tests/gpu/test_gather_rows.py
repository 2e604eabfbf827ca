import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pydyn.ops import gather_rows, reference

DTYPES = (torch.uint8, torch.bool, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Row lengths in elements around the widths of a copy (1 to 16 bytes), a warp, a block and several blocks a row.
ROW_LENGTHS = (0, 1, 2, 3, 4, 8, 15, 16, 31, 32, 33, 255, 256, 1000, 3072, 4097, 70000)


def make_matrix(n_rows, row_length, dtype, seed=0):
    generator = torch.Generator("cuda").manual_seed(seed)
    high = 2 if dtype == torch.bool else 100
    return torch.randint(0, high, (n_rows, row_length), generator=generator, device="cuda").to(dtype)


def make_index(n_rows, n_out, seed=0):
    generator = torch.Generator("cuda").manual_seed(seed)
    return torch.randint(0, n_rows, (n_out,), generator=generator, device="cuda")


@given(
    n_rows=st.integers(1, 40),
    row_length=st.sampled_from(ROW_LENGTHS),
    dtype=st.sampled_from(DTYPES),
    n_out=st.integers(0, 300),
    seed=st.integers(0, 1000),
)
def test_equals_the_reference(n_rows, row_length, dtype, n_out, seed):
    matrix = make_matrix(n_rows, row_length, dtype, seed)
    index = make_index(n_rows, n_out, seed)
    out = gather_rows(matrix, index)
    assert out.dtype == dtype
    assert out.device == matrix.device
    assert torch.equal(out, reference.gather_rows(matrix, index)[0])
    assert torch.equal(out.cpu(), gather_rows(matrix.cpu(), index.cpu()))


FLOATS = (torch.float16, torch.bfloat16, torch.float32)


@pytest.mark.parametrize("from_dtype", FLOATS)
@pytest.mark.parametrize("to_dtype", FLOATS)
@pytest.mark.parametrize("row_length", [0, 1, 7, 8, 33, 1280, 4097])
def test_casts_and_labels_are_those_of_the_cpu(from_dtype, to_dtype, row_length):
    bits = torch.randint(-(2**31), 2**31, (50, row_length), generator=torch.Generator().manual_seed(0))
    if from_dtype == torch.float32:
        matrix = bits.to(torch.int32).view(torch.float32)
    else:
        matrix = (bits >> 16).to(torch.int16).view(from_dtype)
    index, labels = make_index(50, 300), torch.arange(50) * 7
    rows, row_labels = gather_rows(matrix.cuda(), index, labels.cuda(), dtype=to_dtype)
    wanted, wanted_labels = gather_rows(matrix, index.cpu(), labels, dtype=to_dtype)
    torch.testing.assert_close(rows.cpu(), wanted, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(row_labels.cpu(), wanted_labels)


@pytest.mark.parametrize("offset", [0, 1, 2, 4, 8, 12])
def test_matrix_at_any_alignment(offset):
    matrix = make_matrix(1, 16 * 50 + offset, torch.uint8)[0, offset:].view(50, 16)
    index = make_index(50, 200)
    assert torch.equal(gather_rows(matrix, index), matrix[index])


@pytest.mark.parametrize("stride", [0, 2, 3])
def test_index_of_any_stride(stride):
    matrix = make_matrix(50, 6, torch.float32)
    index = make_index(50, 60).as_strided((20,), (stride,))
    assert torch.equal(gather_rows(matrix, index), matrix[index])


def test_offsets_beyond_32_bits():
    if torch.cuda.mem_get_info()[0] < 6 * 2**30:
        pytest.skip("less than 6 GiB of GPU memory free")
    matrix = torch.zeros(2**20 + 1, 2**12, dtype=torch.uint8, device="cuda")
    matrix[-1] = 7
    assert (gather_rows(matrix, torch.tensor([2**20], device="cuda")) == 7).all()


def test_more_rows_than_a_grid_dimension_of_blocks():
    matrix = torch.arange(1000, dtype=torch.int64, device="cuda")
    index = make_index(1000, 5_000_000)
    assert torch.equal(gather_rows(matrix, index), index)


def test_runs_on_the_current_stream():
    matrix = make_matrix(1000, 3072, torch.uint8)
    index = torch.zeros(512, dtype=torch.int64, device="cuda")
    wanted = make_index(1000, 512)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)
        index.copy_(wanted)
        out = gather_rows(matrix, index)
    stream.synchronize()
    assert torch.equal(out, matrix[wanted])


@pytest.mark.parametrize(("matrix_device", "index_device"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_tensors_on_two_devices_are_refused(matrix_device, index_device):
    with pytest.raises(ValueError, match="put both on one device"):
        gather_rows(torch.zeros(3, device=matrix_device), torch.tensor([0], device=index_device))


@pytest.mark.parametrize("bad", [5, -1])
def test_index_out_of_range_fails_a_device_assert(bad):
    # In a process of its own: no CUDA call of a process survives a device-side assert.
    code = f"""
import torch
from pydyn.ops import gather_rows
gather_rows(torch.zeros(5, 2, device="cuda"), torch.tensor([0, {bad}], device="cuda"))
torch.cuda.synchronize()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "device-side assert" in done.stderr


def test_gradcheck():
    matrix = torch.randn(5, 3, dtype=torch.float64, device="cuda", requires_grad=True)
    assert torch.autograd.gradcheck(gather_rows, (matrix, torch.tensor([4, 0, 0, 2], device="cuda")))


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_opcheck(dtype):
    matrix = make_matrix(5, 3, dtype)
    matrix.requires_grad_(dtype.is_floating_point)
    torch.library.opcheck(torch.ops.pydyn.gather_rows.default, (matrix, make_index(5, 7), None, None))


def test_compiles_without_a_graph_break():
    @torch.compile(fullgraph=True)
    def normalised(matrix, index):
        return gather_rows(matrix, index).float() / 255

    matrix, index = make_matrix(30, 12, torch.uint8), make_index(30, 7)
    torch.testing.assert_close(normalised(matrix, index), matrix[index].float() / 255)
