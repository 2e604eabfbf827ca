import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from pydyn.ops import gather_images, reference
from pydyn.ops.extension import EXTENSION

needs_extension = pytest.mark.skipif(not EXTENSION.loaded, reason=EXTENSION.problem or "")

MEAN, STD = (0.4, 0.5, 0.6, 0.3), (0.2, 0.3, 0.1, 0.25)
PLAIN = ((0.0,) * 4, (1 / 255,) * 4)
"""Mean and standard deviation that leave pixels as they are."""


def make_images(n_images=20, height=9, width=11, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n_images, height, width, channels), dtype=torch.uint8, generator=generator)


def pixels(images, index, **options):
    channels = images.shape[3]
    batch = gather_images(images, index, PLAIN[0][:channels], PLAIN[1][:channels], **options)
    return batch.permute(0, 2, 3, 1).double()


def by_reference(images, index, mean, std, *, memory_format, epoch, **options):
    return reference.gather_images(
        images, index, mean, std, epoch=epoch, channels_last=memory_format == torch.channels_last, **options
    )


@settings(max_examples=300)
@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 40), st.integers(1, 40), st.integers(1, 4)),
    n_out=st.integers(0, 20),
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
def test_equals_the_reference_bit_for_bit(shape, n_out, options):
    images = make_images(*shape)
    index = torch.randint(0, shape[0], (n_out,), generator=torch.Generator().manual_seed(1))
    mean, std = MEAN[: shape[3]], STD[: shape[3]]
    batch = gather_images(images, index, mean, std, **options)
    expected = by_reference(images, index, mean, std, **options)
    assert batch.shape == (n_out, shape[3], shape[1], shape[2])
    assert batch.dtype == options["dtype"]
    assert batch.is_contiguous(memory_format=options["memory_format"]) or n_out == 0
    assert torch.equal(batch, expected)


@pytest.mark.parametrize(
    ("seed", "counter", "words"),
    [  # the known answers of Random123 for philox4x32-10
        (0, (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (2**64 - 1, (2**32 - 1,) * 4, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            0x299F31D0A4093822,
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_random_numbers_are_philox(seed, counter, words):
    sample = np.array([counter[0] | counter[1] << 32], dtype=np.uint64).view(np.int64)
    drawn = reference.philox(seed, torch.from_numpy(sample), torch.tensor([counter[2]]), counter[3])
    assert tuple(int(word) for word in drawn) == words


def test_without_augmentation_it_normalises():
    images = make_images()
    index = torch.tensor([3, 0, 19, 3])
    wanted = (images[index].double() / 255 - torch.tensor(MEAN[:3])) / torch.tensor(STD[:3])
    batch = gather_images(images, index, MEAN[:3], STD[:3])
    torch.testing.assert_close(batch.permute(0, 2, 3, 1).double(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("mode", "numpy_mode"), [("zeros", "constant"), ("reflect", "reflect"), ("edge", "edge")])
def test_a_crop_is_a_window_of_the_padded_image(mode, numpy_mode):
    images = make_images(width=8)
    batch = pixels(images, torch.arange(20), crop_padding=3, padding_mode=mode, seed=5)
    found = set()
    for image, cropped in zip(images.numpy(), batch.numpy(), strict=True):
        padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode=numpy_mode)
        places = [(y, x) for y in range(7) for x in range(7) if np.array_equal(padded[y : y + 9, x : x + 8], cropped)]
        assert len(places) == 1
        found.add(places[0])
    assert len(found) > 10


def test_a_flip_mirrors_about_half_of_the_images():
    images = make_images(400, 2, 5, 1)
    batch = pixels(images, torch.arange(400), flip=True)
    mirrored = [bool((image.flip(1) == out).all()) for image, out in zip(images, batch, strict=True)]
    same = [bool((image == out).all()) for image, out in zip(images, batch, strict=True)]
    assert all(a or b for a, b in zip(mirrored, same, strict=True))
    assert 150 < sum(mirrored) < 250


def test_every_place_of_the_crop_is_as_likely():
    n_images, padding = 50_000, 2
    images = torch.zeros(n_images, 5, 5, 1, dtype=torch.uint8)
    images[:, 2, 2] = 1
    batch = pixels(images, torch.arange(n_images), crop_padding=padding, seed=3)
    counts = batch.sum(0).flatten().numpy()
    assert counts.sum() == n_images
    assert stats.chisquare(counts).pvalue > 0.001


def test_rotation_agrees_with_an_independent_one():
    rotation, size = 40.0, 21
    yy, xx = np.mgrid[:size, :size]
    smooth = (127 + 60 * np.sin(yy / 3) + 60 * np.cos(xx / 4)).astype(np.uint8)
    images = torch.from_numpy(smooth)[None, :, :, None].expand(5, -1, -1, 1).contiguous()
    batch = pixels(images, torch.arange(5), rotation=rotation, padding_mode="edge", seed=11)
    words = reference.philox(11, torch.arange(5), torch.zeros(5, dtype=torch.int64), 1)
    centre = (size - 1) / 2
    for out, word in zip(batch.numpy(), words[0].tolist(), strict=True):
        angle = ((word >> 8) / 2**23 - 1) * math.radians(rotation)
        y, x = yy - centre, xx - centre
        source = [
            math.cos(angle) * y - math.sin(angle) * x + centre,
            math.sin(angle) * y + math.cos(angle) * x + centre,
        ]
        wanted = ndimage.map_coordinates(smooth.astype(float), source, order=1, mode="nearest")
        assert np.abs(out[:, :, 0] - wanted).max() < 0.5
        assert np.abs(out[:, :, 0] - smooth).max() > 5


def test_a_whole_number_of_pixels_of_shift_moves_pixels():
    images = make_images(300, 4, 4, 1)
    batch = pixels(images, torch.arange(300), shift=0.5)
    words = reference.philox(0, torch.arange(300), torch.zeros(300, dtype=torch.int64), 1)
    moved = [((word >> 8).double() * 2**-23 - 1) * 0.5 * 4 for word in words[1:3]]
    for image, out, down, right in zip(images.numpy(), batch.numpy(), *moved, strict=False):
        wanted = ndimage.shift(image[:, :, 0].astype(float), (float(down), float(right)), order=1, mode="grid-constant")
        assert np.abs(out[:, :, 0] - wanted).max() < 3


def test_a_constant_image_stays_constant_under_everything():
    images = torch.full((10, 12, 7, 3), 200, dtype=torch.uint8)
    options = {"rotation": 90.0, "shift": 0.4, "crop_padding": 3, "flip": True}
    for mode in ("edge", "reflect"):
        assert (pixels(images, torch.arange(10), padding_mode=mode, **options) == 200).all()


AUGMENTED = {"crop_padding": 2, "flip": True, "rotation": 10.0, "shift": 0.1, "seed": 9}


def test_augmentation_belongs_to_the_sample_not_to_the_batch():
    images = make_images()
    whole = pixels(images, torch.arange(20), **AUGMENTED)
    assert torch.equal(pixels(images, torch.tensor([7, 3, 7]), **AUGMENTED), whole[[7, 3, 7]])
    assert torch.equal(pixels(images, torch.arange(20).flip(0), **AUGMENTED), whole.flip(0))
    assert torch.equal(pixels(images, torch.arange(40)[::2] // 2, **AUGMENTED), whole)
    assert torch.equal(pixels(images, torch.tensor([4]).expand(5), **AUGMENTED), whole[[4] * 5])


def test_thread_count_changes_nothing():
    images = make_images(300, 16, 16)
    before = torch.get_num_threads()
    try:
        outs = []
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            outs.append(pixels(images, torch.arange(300), **AUGMENTED))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(out, outs[0]) for out in outs)


@pytest.mark.parametrize("other", [{"epoch": 1}, {"seed": 10}, {"epoch": 2**32 - 1}, {"seed": 9 + 2**32}])
def test_another_epoch_or_seed_augments_otherwise(other):
    images = make_images()
    first = pixels(images, torch.arange(20), **AUGMENTED)
    assert not torch.equal(pixels(images, torch.arange(20), **AUGMENTED | other), first)


def test_the_epoch_may_be_a_tensor():
    images = make_images()
    for epoch in (0, 5, 2**32 - 1):
        as_tensor = pixels(images, torch.arange(20), **AUGMENTED, epoch=torch.tensor(epoch))
        assert torch.equal(as_tensor, pixels(images, torch.arange(20), **AUGMENTED, epoch=epoch))


def test_the_pool_may_be_a_part_of_a_larger_one_and_stays_as_it_is():
    images = make_images()
    before = images.clone()
    batch = pixels(images[5:], torch.tensor([14, 0]), flip=True)
    assert batch.shape == (2, 9, 11, 3)
    assert torch.equal(images, before)


@pytest.mark.parametrize("op", [gather_images, reference.gather_images])
@pytest.mark.parametrize("bad", [20, -1, 2**62])
def test_the_first_index_out_of_range_is_named(op, bad):
    index = torch.zeros(500, dtype=torch.int64)
    index[[123, 400]] = bad
    with pytest.raises(IndexError, match=rf"index\[123\] = {bad} is out of range.*20 images.*0 to 19"):
        op(make_images(), index, MEAN[:3], STD[:3])


@pytest.mark.parametrize("op", [gather_images, reference.gather_images])
@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"images": make_images().float()}, TypeError, "images must be uint8"),
        ({"images": make_images()[0]}, ValueError, r"shape \(N, H, W, C\)"),
        ({"images": make_images(channels=5)}, ValueError, "C of 1 to 4"),
        ({"images": make_images().transpose(1, 2)}, ValueError, "images must be contiguous.*strides"),
        ({"images": make_images()[:0]}, IndexError, "index has 2 elements, but there are no images"),
        ({"images": make_images(height=0)}, ValueError, "sides of 1 to"),
        ({"index": torch.zeros(1, 1, dtype=torch.int64)}, ValueError, "index must have 1 dimension"),
        ({"index": torch.zeros(2)}, TypeError, "index must be int64"),
        ({"mean": (0.5,)}, ValueError, "mean has 1 and std 3 values, but images have 3 channels"),
        ({"std": (0.5, 0.0, 0.5)}, ValueError, r"std\[1\] = 0.* is not above 0"),
        ({"std": (0.5, 0.5, math.nan)}, ValueError, r"std\[2\] = nan is not above 0"),
        ({"crop_padding": -1}, ValueError, "crop_padding = -1 is not in 0 to"),
        ({"padding_mode": "wrap"}, ValueError, "padding_mode = 'wrap' is none of zeros, reflect, edge"),
        ({"rotation": 181.0}, ValueError, "rotation = 181.* is not in 0 to 180 degrees"),
        ({"shift": -0.1}, ValueError, "shift = -0.1 is not in 0 to 1"),
        ({"dtype": torch.float64}, TypeError, "is none of float32, bfloat16, float16"),
    ],
)
def test_what_cannot_be_gathered_is_refused_by_name(op, changed, error, message):
    arguments = {"images": make_images(), "index": torch.tensor([0, 1]), "mean": MEAN[:3], "std": STD[:3]} | changed
    with pytest.raises(error, match=message):
        op(**arguments)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"epoch": -1}, ValueError, "epoch = -1 is not in 0 to"),
        ({"epoch": 2**32}, ValueError, "epoch = 4294967296 is not in 0 to"),
        ({"epoch": torch.tensor([1, 2])}, ValueError, "epoch must be one number"),
        ({"epoch": torch.tensor(1.0)}, TypeError, "epoch must be int64"),
        ({"seed": -1}, ValueError, "seed = -1 is not in 0 to"),
        ({"memory_format": torch.preserve_format}, ValueError, "neither channels_last nor contiguous"),
    ],
)
def test_seed_epoch_and_format_out_of_range_are_refused(changed, error, message):
    with pytest.raises(error, match=message):
        gather_images(make_images(), torch.tensor([0]), MEAN[:3], STD[:3], **changed)


@needs_extension
@pytest.mark.parametrize("epoch", [None, torch.tensor(3)])
@pytest.mark.parametrize("channels_last", [True, False])
def test_opcheck(epoch, channels_last):
    op = torch.ops.pydyn.gather_images.default
    fixed = ([0.4] * 3, [0.2] * 3, 2, "reflect", True, 5.0, 0.1, 7, 1, epoch, torch.float16, channels_last)
    torch.library.opcheck(op, (make_images(), torch.tensor([4, 0, 0]), *fixed))


@needs_extension
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_without_a_graph_break_for_every_epoch(backend):
    @torch.compile(fullgraph=True, backend=backend)
    def batch_mean(images, index, epoch):
        return gather_images(images, index, MEAN[:3], STD[:3], flip=True, crop_padding=2, epoch=epoch).mean((2, 3))

    images, index = make_images(), torch.arange(12)
    for epoch in (0, 1, 2, 3):
        wanted = gather_images(images, index, MEAN[:3], STD[:3], flip=True, crop_padding=2, epoch=epoch).mean((2, 3))
        torch.testing.assert_close(batch_mean(images, index, epoch), wanted)
