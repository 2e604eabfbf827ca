import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pydyn.ops import gather_images

MEAN, STD = (0.4, 0.5, 0.6, 0.3), (0.2, 0.3, 0.1, 0.25)


def make_images(n_images=40, height=9, width=11, channels=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n_images, height, width, channels), dtype=torch.uint8, generator=generator)


@settings(max_examples=300)
@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 40), st.integers(1, 40), st.integers(1, 4)),
    n_out=st.integers(0, 50),
    options=st.fixed_dictionaries(
        {
            "crop_padding": st.sampled_from((0, 1, 4, 50)),
            "padding_mode": st.sampled_from(("zeros", "reflect", "edge")),
            "flip": st.booleans(),
            "rotation": st.sampled_from((0.0, 0.0, 15.0, 180.0)),
            "shift": st.sampled_from((0.0, 0.0, 0.1, 1.0)),
            "seed": st.integers(0, 2**63 - 1),
            "epoch": st.integers(0, 2**32 - 1),
            "dtype": st.sampled_from((torch.float32, torch.bfloat16, torch.float16)),
            "memory_format": st.sampled_from((torch.channels_last, torch.contiguous_format)),
        }
    ),
)
def test_the_same_bits_as_on_the_cpu(shape, n_out, options):
    images = make_images(*shape)
    index = torch.randint(0, shape[0], (n_out,), generator=torch.Generator().manual_seed(1))
    mean, std = MEAN[: shape[3]], STD[: shape[3]]
    batch = gather_images(images.cuda(), index.cuda(), mean, std, **options)
    wanted = gather_images(images, index, mean, std, **options)
    assert batch.stride() == wanted.stride()
    assert torch.equal(batch.cpu(), wanted)


@pytest.mark.parametrize("shape", [(3, 224, 224, 3), (2, 1024, 1024, 1), (50_000, 32, 32, 3)])
def test_large_images_and_large_pools(shape):
    images = make_images(*shape)
    index = torch.randint(0, shape[0], (600 if shape[0] > 3 else 5,), generator=torch.Generator().manual_seed(1))
    options = {"crop_padding": 4, "flip": True, "rotation": 10.0, "seed": 5}
    arguments = MEAN[: shape[3]], STD[: shape[3]]
    batch = gather_images(images.cuda(), index.cuda(), *arguments, **options)
    assert torch.equal(batch.cpu(), gather_images(images, index, *arguments, **options))


def test_a_captured_graph_takes_the_epoch_and_the_index_of_the_replay():
    images, index = make_images().cuda(), torch.arange(20, device="cuda")
    epoch = torch.zeros((), dtype=torch.int64, device="cuda")

    def batch():
        return gather_images(images, index, MEAN[:3], STD[:3], crop_padding=2, flip=True, epoch=epoch)

    batch()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = batch()
    for number in (1, 2, 3):
        epoch.fill_(number)
        index.copy_(torch.randint(0, 40, (20,)))
        graph.replay()
        wanted = gather_images(images, index, MEAN[:3], STD[:3], crop_padding=2, flip=True, epoch=number)
        assert torch.equal(out, wanted)


def test_does_not_wait_for_the_device():
    images, index = make_images().cuda(), torch.arange(20, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        gather_images(images, index, MEAN[:3], STD[:3], flip=True, rotation=5.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_compiles_without_a_graph_break():
    @torch.compile(fullgraph=True)
    def mean(images, index, epoch):
        return gather_images(images, index, MEAN[:3], STD[:3], flip=True, epoch=epoch).mean((2, 3))

    images, index = make_images().cuda(), torch.arange(20, device="cuda")
    for epoch in (0, 1, 2):
        wanted = gather_images(images, index, MEAN[:3], STD[:3], flip=True, epoch=epoch).mean((2, 3))
        torch.testing.assert_close(mean(images, index, epoch), wanted)


def test_index_out_of_range_fails_a_device_assert():
    code = """
import torch
from pydyn.ops import gather_images
gather_images(torch.zeros(5, 2, 2, 1, dtype=torch.uint8, device="cuda"), torch.tensor([5], device="cuda"), [0.5], [0.5])
torch.cuda.synchronize()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "device-side assert" in done.stderr
