import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pydyn.ops import gather_rows, reference
from pydyn.ops.extension import EXTENSION

needs_extension = pytest.mark.skipif(not EXTENSION.loaded, reason=EXTENSION.problem or "")

DTYPES = (torch.uint8, torch.bool, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64)
ROW_SHAPES = ((), (1,), (3,), (16,), (0,), (3, 5), (2, 3, 4, 5))


def make_matrix(n_rows, row_shape, dtype, seed=0):
    values = torch.randint(0, 2 if dtype == torch.bool else 100, (n_rows, *row_shape), generator=generator(seed))
    return values.to(dtype)


def make_index(n_rows, n_out, seed=0):
    return torch.randint(0, n_rows, (n_out,), generator=generator(seed))


def generator(seed):
    return torch.Generator().manual_seed(seed)


@given(
    n_rows=st.integers(1, 40),
    row_shape=st.sampled_from(ROW_SHAPES),
    dtype=st.sampled_from(DTYPES),
    n_out=st.integers(0, 100),
    seed=st.integers(0, 1000),
)
def test_equals_the_reference(n_rows, row_shape, dtype, n_out, seed):
    matrix = make_matrix(n_rows, row_shape, dtype, seed)
    index = make_index(n_rows, n_out, seed)
    out = gather_rows(matrix, index)
    assert out.dtype == dtype
    assert out.is_contiguous()
    assert torch.equal(out, reference.gather_rows(matrix, index)[0])
    assert torch.equal(out, matrix[index])


@pytest.mark.parametrize("n_out", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_batches_of_none_and_one(n_out, dtype):
    matrix = make_matrix(5, (3, 2), dtype)
    assert torch.equal(gather_rows(matrix, torch.full((n_out,), 4)), matrix[4:5][:n_out])


def test_empty_matrix_gives_an_empty_batch():
    assert gather_rows(torch.empty(0, 7), torch.empty(0, dtype=torch.int64)).shape == (0, 7)


@pytest.mark.parametrize("stride", [0, 2, 3])
def test_index_of_any_stride(stride):
    matrix = make_matrix(50, (6,), torch.float32)
    index = make_index(50, 60).as_strided((20,), (stride,))
    assert torch.equal(gather_rows(matrix, index), matrix[index])


def test_the_same_row_many_times():
    matrix = make_matrix(3, (3072,), torch.uint8)
    assert torch.equal(gather_rows(matrix, torch.full((300,), 2)), matrix[2].expand(300, -1))


def test_rows_larger_than_the_parallel_grain():
    matrix = make_matrix(9, (3, 224, 224), torch.uint8)
    index = make_index(9, 20)
    assert torch.equal(gather_rows(matrix, index), matrix[index])


def test_matrix_that_is_a_part_of_a_larger_storage():
    matrix = make_matrix(20, (7,), torch.uint8)[3:15]
    index = make_index(12, 30)
    assert torch.equal(gather_rows(matrix, index), matrix[index])


FLOATS = (torch.float16, torch.bfloat16, torch.float32)


@given(
    from_dtype=st.sampled_from(FLOATS),
    to_dtype=st.sampled_from(FLOATS),
    row_length=st.integers(0, 70),
    n_out=st.integers(0, 40),
    seed=st.integers(0, 1000),
)
def test_a_cast_rounds_as_torch_does(from_dtype, to_dtype, row_length, n_out, seed):
    # All kinds of bits: subnormal, infinite, NaN.
    bits = torch.randint(-(2**31), 2**31, (12, row_length), generator=generator(seed))
    if from_dtype == torch.float32:
        matrix = bits.to(torch.int32).view(torch.float32)
    else:
        matrix = (bits >> 16).to(torch.int16).view(from_dtype)
    index = make_index(12, n_out, seed)
    out = gather_rows(matrix, index, dtype=to_dtype)
    assert out.dtype == to_dtype
    torch.testing.assert_close(out, matrix[index].to(to_dtype), rtol=0, atol=0, equal_nan=True)


def test_halfway_values_go_to_even():
    values = torch.tensor([[1 + 2**-9, 1 + 3 * 2**-9, 1 + 2**-11, 1 + 3 * 2**-11, 65519.99, 65520.0, 2.0**-25]])
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(gather_rows(values, torch.tensor([0]), dtype=dtype), values.to(dtype))


@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_labels_come_alongside(dtype):
    matrix, labels = torch.randn(30, 5, generator=generator(0)).half(), torch.arange(30) * 3
    index = make_index(30, 50)
    rows, row_labels = gather_rows(matrix, index, labels, dtype=dtype)
    assert torch.equal(rows, matrix[index].to(dtype or torch.float16))
    assert torch.equal(row_labels, labels[index])


@pytest.mark.parametrize("op", [gather_rows, reference.gather_rows])
@pytest.mark.parametrize(
    ("matrix", "labels", "dtype", "error", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(3), None, TypeError, "labels must be int64"),
        (torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64), None, ValueError, r"labels must be .* shape \[3\]"),
        (torch.zeros(3, 2), torch.arange(6)[::2], None, ValueError, "labels must be contiguous"),
        (torch.zeros(3, 2), None, torch.float64, TypeError, "only float16, bfloat16 and float32 are cast"),
        (torch.zeros(3, 2).byte(), None, torch.float32, TypeError, "only float16, bfloat16 and float32 are cast"),
    ],
)
def test_labels_and_casts_that_are_refused(op, matrix, labels, dtype, error, message):
    with pytest.raises(error, match=message):
        op(matrix, torch.tensor([0]), labels, dtype=dtype)


@pytest.fixture
def set_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_thread_count_changes_nothing(set_threads):
    matrix = make_matrix(1000, (3072,), torch.uint8)
    index = make_index(1000, 777)
    outs = []
    for threads in (1, 2, 3, 7):
        set_threads(threads)
        outs.append(gather_rows(matrix, index))
    assert all(torch.equal(out, matrix[index]) for out in outs)


@pytest.mark.parametrize("op", [gather_rows, reference.gather_rows])
@pytest.mark.parametrize("bad", [10, 11, 2**62, -1, -(2**62)])
@pytest.mark.parametrize("threads", [1, 4])
def test_the_first_index_out_of_range_is_named(set_threads, op, bad, threads):
    set_threads(threads)
    matrix = make_matrix(10, (3072,), torch.uint8)
    index = make_index(10, 500)
    index[[123, 124, 300, 499]] = bad
    with pytest.raises(IndexError, match=rf"index\[123\] = {bad} is out of range: matrix has 10 rows.* 0 to 9"):
        op(matrix, index)


@pytest.mark.parametrize("op", [gather_rows, reference.gather_rows])
@pytest.mark.parametrize("bad", [5, -1])
def test_index_out_of_range_is_refused(op, bad):
    with pytest.raises(IndexError):
        op(torch.zeros(5, 2), torch.tensor([0, bad]))


@pytest.mark.parametrize("op", [gather_rows, reference.gather_rows])
@pytest.mark.parametrize(
    ("matrix", "index", "error", "message"),
    [
        (torch.zeros(()), torch.tensor([0]), ValueError, "matrix must have at least 1 dimension"),
        (torch.zeros(3), torch.tensor(0), ValueError, "index must have 1 dimension"),
        (torch.zeros(3), torch.tensor([[0]]), ValueError, r"index must have 1 dimension, got shape \[1, 1\]"),
        (torch.zeros(3), torch.tensor([0], dtype=torch.int32), TypeError, "index must be int64"),
        (torch.zeros(3), torch.tensor([0.0]), TypeError, "index must be int64"),
        (torch.zeros(3, 2).t(), torch.tensor([0]), ValueError, r"matrix must be contiguous.*\[1, 2\]"),
        (torch.zeros(4, 2)[::2], torch.tensor([0]), ValueError, "matrix must be contiguous"),
    ],
)
def test_what_cannot_be_gathered_is_refused_by_name(op, matrix, index, error, message):
    with pytest.raises(error, match=message):
        op(matrix, index)


@pytest.mark.parametrize("op", [gather_rows, reference.gather_rows])
def test_no_rows_to_gather_from(op):
    with pytest.raises(IndexError, match="index has 1 elements, but matrix has no rows"):
        op(torch.empty(0, 7), torch.tensor([0]))


def test_gradients_of_a_repeated_row_add_up():
    matrix = torch.zeros(4, 2, requires_grad=True)
    gather_rows(matrix, torch.tensor([1, 3, 1])).sum().backward()
    assert matrix.grad.tolist() == [[0, 0], [2, 2], [0, 0], [1, 1]]


def test_gradients_go_back_through_a_cast():
    matrix = torch.randn(4, 20, generator=generator(0)).half().requires_grad_()
    rows, _ = gather_rows(matrix, torch.tensor([1, 3, 1]), torch.arange(4), dtype=torch.float32)
    rows.sum().backward()
    assert matrix.grad.dtype == torch.float16
    assert matrix.grad[:, 0].tolist() == [0, 2, 0, 1]


def test_gradcheck():
    matrix = torch.randn(5, 3, dtype=torch.float64, generator=generator(0), requires_grad=True)
    index = torch.tensor([4, 0, 0, 2])
    assert torch.autograd.gradcheck(gather_rows, (matrix, index))
    assert torch.autograd.gradgradcheck(gather_rows, (matrix, index))


def test_a_forward_mode_derivative_is_that_of_indexing():
    matrix, tangent = torch.randn(2, 5, 3, generator=generator(0))
    index = torch.tensor([4, 0, 0])
    _, got = torch.func.jvp(lambda rows: gather_rows(rows, index, torch.arange(5))[0], (matrix,), (tangent,))
    assert torch.equal(got, tangent[index])


@needs_extension
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_opcheck(dtype):
    matrix = make_matrix(5, (3,), dtype)
    matrix.requires_grad_(dtype.is_floating_point)
    index = torch.tensor([4, 0, 0])
    torch.library.opcheck(torch.ops.pydyn.gather_rows.default, (matrix, index, None, None))
    torch.library.opcheck(torch.ops.pydyn.gather_rows.default, (matrix, index, torch.arange(5), None))


@needs_extension
def test_opcheck_of_a_cast():
    matrix = torch.randn(5, 33, generator=generator(0)).half().requires_grad_()
    torch.library.opcheck(
        torch.ops.pydyn.gather_rows.default, (matrix, torch.tensor([4, 0]), torch.arange(5), torch.float32)
    )


@needs_extension
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_without_a_graph_break(backend):
    @torch.compile(fullgraph=True, dynamic=True, backend=backend)
    def normalised(matrix, index):
        return gather_rows(matrix, index).float() / 255

    matrix = make_matrix(30, (12,), torch.uint8)
    for n_out in (7, 11):
        index = make_index(30, n_out)
        assert torch.equal(normalised(matrix, index), matrix[index].float() / 255)


HIDDEN_EXTENSION = """
import sys, warnings
sys.modules["pydyn._C"] = None
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import torch
    from pydyn.ops import ambiguity_cross_entropy, gather_images, gather_rows
    before = len([w for w in caught if "pydyn" in str(w.message)])
    matrix, index = torch.arange(12.0).reshape(4, 3), torch.tensor([3, 0, 3])
    outs = [gather_rows(matrix, index) for _ in range(3)]
    COMPILED
    images = gather_images(torch.zeros(3, 2, 2, 1, dtype=torch.uint8), index[:1] * 0, [0.5], [0.5])
    loss = ambiguity_cross_entropy(matrix.clone().requires_grad_(), torch.arange(4) % 3, terms=True)
    loss.loss.backward()
warned = [w for w in caught if "pydyn" in str(w.message)]
assert before == 0, "importing warns"
assert len(warned) == 1, [str(w.message) for w in warned]
assert all(torch.equal(out, matrix[index]) for out in outs)
assert (images == -1).all() and loss.margins.shape == (4,)
print(warned[0].category.__name__, warned[0].message, warned[0].filename)
"""


@pytest.mark.parametrize(
    "compiled", ["", "outs = [torch.compile(gather_rows, fullgraph=True, backend='eager')(matrix, index)]"]
)
def test_without_extension_the_reference_runs_and_one_warning_says_so(compiled):
    code = HIDDEN_EXTENSION.replace("COMPILED", compiled)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "RuntimeWarning" in done.stdout
    assert "not built" in done.stdout
    assert "pip install --no-build-isolation -e ." in done.stdout
    assert done.stdout.strip().endswith("<string>"), "the warning points at the caller's line"
