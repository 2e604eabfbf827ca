"""Convolutions over few channels by our kernels, and their gradients: against the reference, float64 and themselves."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d
from torch.nn.grad import conv2d_input, conv2d_weight

from pydyn.ops import conv_relu, plain_convolution, reference
from pydyn.training.step import capture

LAYOUT = torch.channels_last
DTYPES = [torch.float16, torch.bfloat16]
# Images, channels, filters, height, width: heights that end within a tile, many and few tiles, several tiles of channels.
SHAPES = [
    (1, 32, 32, 1, 16),
    (3, 32, 32, 5, 32),
    (7, 64, 32, 17, 16),
    (2, 96, 64, 9, 32),
    (200, 32, 64, 16, 16),
    (100, 32, 32, 32, 32),
    (450, 64, 32, 16, 16),  # more tiles than blocks, of two and of three tiles of channels
    (450, 96, 32, 16, 16),
    (2, 160, 128, 8, 32),
]

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available()
    and torch.cuda.get_device_properties(0).shared_memory_per_block_optin < plain_convolution.SHARED_MEMORY,
    reason="a GPU with little shared memory, for which nothing takes these kernels",
)


def numbers(shape, dtype, seed=0):
    """Multiples of 0.5, of which sums are exact, whatever their order."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(-2, 3, shape, generator=generator) * 0.5).to(dtype).contiguous(memory_format=LAYOUT)


def both(shape, dtype):
    n_images, channels, filters, height, width = shape
    return (
        numbers((n_images, filters, height, width), dtype),
        numbers((n_images, channels, height, width), dtype, 1),
    )


def convolve(images, weight, bias=None, relu=False, transposed=False):
    return torch.ops.pydyn.conv_3x3(images, weight, bias, relu, transposed)


def weight_gradient(gradient, images):
    return torch.ops.pydyn.conv_3x3_weight_gradient(gradient, images)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_convolutions_equal_the_reference(shape, dtype):
    gradient, images = both(shape, dtype)
    weight = numbers((shape[2], shape[1], 3, 3), dtype, 2)
    bias = numbers((1, shape[2], 1, 1), dtype, 3).flatten()
    cases = [(images, None, False, False), (images, bias, True, False), (gradient, None, False, True)]
    for inputs, added, relu, transposed in cases:
        on_gpu = None if added is None else added.cuda()
        ours = convolve(inputs.cuda(), weight.cuda(), on_gpu, relu, transposed)
        assert ours.dtype == dtype and ours.is_contiguous(memory_format=LAYOUT)
        assert torch.equal(ours.cpu(), reference.conv_3x3(inputs, weight, added, relu, transposed))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_weights_gradient_equals_the_reference(shape, dtype):
    gradient, images = both(shape, dtype)
    ours = weight_gradient(gradient.cuda(), images.cuda())
    assert ours.dtype == torch.float32 and ours.is_contiguous(memory_format=LAYOUT)
    assert torch.equal(ours.cpu(), reference.conv_3x3_weight_gradient(gradient, images))


def test_any_layout_is_taken():
    gradient, images = both((3, 32, 32, 4, 16), torch.bfloat16)
    weight = numbers((32, 32, 3, 3), torch.bfloat16, 2)
    apart = torch.zeros(gradient.numel() + 1, dtype=torch.bfloat16, device="cuda")[1:]  # not aligned to 16 bytes
    apart = apart.view(3, 4, 16, 32).permute(0, 3, 1, 2)
    apart.copy_(gradient)
    expected = reference.conv_3x3_weight_gradient(gradient, images)
    assert torch.equal(weight_gradient(apart, images.cuda().contiguous()).cpu(), expected)
    expected = reference.conv_3x3(gradient, weight, None, False, False)
    assert torch.equal(convolve(apart, weight.cuda().contiguous()).cpu(), expected)


def test_a_nan_stays_where_it_is_seen():
    images = torch.zeros(1, 32, 8, 16, dtype=torch.bfloat16, device="cuda").contiguous(memory_format=LAYOUT)
    images[0, 5, 4, 4] = float("nan")
    weight = torch.ones(32, 32, 3, 3, dtype=torch.bfloat16, device="cuda")
    out = convolve(images, weight, weight[:, 0, 0, 0], True)
    assert out[0, :, 3:6, 3:6].isnan().all() and out.isnan().sum() == 32 * 9


def test_the_weights_gradient_is_the_same_every_time_and_within_a_graph():
    generator = torch.Generator("cuda").manual_seed(0)
    gradient, images = (
        torch.randn(300, channels, 16, 16, generator=generator, device="cuda")
        .bfloat16()
        .contiguous(memory_format=LAYOUT)
        for channels in (64, 32)
    )
    first = weight_gradient(gradient, images)
    recorded, replay = capture(lambda: weight_gradient(gradient, images))
    recorded.zero_()
    replay()
    assert torch.equal(first, recorded)
    assert all(torch.equal(first, weight_gradient(gradient, images)) for _ in range(10))


def test_an_expanded_gradient_is_taken():
    gradient, images = both((3, 32, 32, 4, 16), torch.bfloat16)
    same = gradient[:1, :, :1, :1].expand(3, 32, 4, 16)
    expected = reference.conv_3x3_weight_gradient(same, images)
    assert torch.equal(weight_gradient(same.cuda(), images.cuda()).cpu(), expected)


def test_without_images_there_is_no_result_and_the_weights_gradient_is_zero():
    gradient, images = both((0, 32, 64, 4, 16), torch.float16)
    weight = numbers((64, 32, 3, 3), torch.float16).cuda()
    assert convolve(images.cuda(), weight).shape == (0, 64, 4, 16)
    assert torch.equal(weight_gradient(gradient.cuda(), images.cuda()), torch.zeros(64, 32, 3, 3, device="cuda"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("channels", "filters", "size"), [(32, 32, 32), (32, 64, 16), (64, 32, 16)])
def test_the_layer_takes_them_and_its_gradient_is_closer_to_the_truth_than_torchs(
    monkeypatch, dtype, channels, filters, size
):
    taken, decide = [], plain_convolution.has_kernels
    monkeypatch.setattr(
        plain_convolution, "has_kernels", lambda *arguments: taken.append(decide(*arguments)) or taken[-1]
    )
    layer = nn.Conv2d(channels, filters, 3, 1, 1, device="cuda").to(memory_format=LAYOUT)
    images = torch.randn(64, channels, size, size, device="cuda").to(memory_format=LAYOUT).requires_grad_()

    def gradients(function):
        layer.zero_grad()
        images.grad = None
        with torch.autocast("cuda", dtype):
            value = function(images, layer.weight, layer.bias, 1, 1)
        (value.float() ** 2).mean().backward()
        return layer.weight.grad.double(), images.grad.double()

    ours = gradients(conv_relu)
    assert taken == [True, True, True]  # forward, the images' gradient and the weight's
    theirs = gradients(lambda *arguments: torch.relu(conv2d(*arguments)))
    rounded, weight, bias = (p.detach().to(dtype).double() for p in (images, layer.weight, layer.bias))
    activations = torch.relu(conv2d(rounded, weight, bias, 1, 1))
    upstream = 2 * activations / activations.numel()
    truth = (
        conv2d_weight(rounded, weight.shape, upstream, padding=1),
        conv2d_input(rounded.shape, weight, upstream, padding=1),
    )
    errors = [[(one - true).norm() for one, true in zip(some, truth, strict=True)] for some in (ours, theirs)]
    assert errors[0][0] <= errors[1][0] and errors[0][1] <= 1.1 * errors[1][1]


@pytest.mark.parametrize(("channels", "filters", "size"), [(64, 64, 16), (32, 32, 24), (16, 32, 32), (3, 32, 32)])
def test_what_they_are_not_made_for_is_cudnns(channels, filters, size):
    images = torch.empty(2, channels, size, size, dtype=torch.bfloat16, device="cuda")
    assert not plain_convolution.has_kernels(images, images.new_empty(filters, channels, 3, 3), 1, 1)


def test_they_keep_torchs_rules():
    gradient, images = (tensor.cuda() for tensor in both((2, 32, 64, 4, 16), torch.bfloat16))
    weight = numbers((64, 32, 3, 3), torch.bfloat16).cuda()
    torch.library.opcheck(torch.ops.pydyn.conv_3x3_weight_gradient.default, (gradient, images))
    torch.library.opcheck(torch.ops.pydyn.conv_3x3.default, (images, weight, weight[:, 0, 0, 0], True, False))
    torch.library.opcheck(torch.ops.pydyn.conv_3x3.default, (gradient, weight, None, False, True))


@pytest.mark.parametrize(
    ("gradient", "images", "message"),
    [
        ((2, 32, 4, 16), (2, 32, 5, 16), "must be .N, F, H, W. and images"),
        ((2, 33, 4, 16), (2, 32, 4, 16), "multiples of 32, got 32 and 33"),
        ((2, 32, 4, 24), (2, 32, 4, 24), "with a width of 16 or 32, got shape"),
    ],
)
def test_bad_input_of_the_weights_gradient_is_refused(gradient, images, message):
    with pytest.raises(ValueError, match=message):
        weight_gradient(numbers(gradient, torch.float16).cuda(), numbers(images, torch.float16).cuda())


@pytest.mark.parametrize(
    ("images", "weight", "bias", "message"),
    [
        ((2, 32, 4, 16), (32, 64, 3, 3), None, "must be .F, C, 3, 3. with C = 32, the channels of the images"),
        ((2, 32, 4, 16), (32, 32, 5, 5), None, "must be .F, C, 3, 3. with"),
        ((2, 32, 4, 16), (32, 32, 3, 3), 31, "bias must be .32,., got shape .31."),
        ((2, 48, 4, 16), (32, 48, 3, 3), None, "multiples of 32, got 48 and 32"),
        ((2, 512, 4, 32), (32, 512, 3, 3), None, "the weights of 512 channels are too many"),
    ],
)
def test_bad_input_of_the_convolution_is_refused(images, weight, bias, message):
    with pytest.raises(ValueError, match=message):
        convolve(
            numbers(images, torch.float16).cuda(),
            numbers(weight, torch.float16).cuda(),
            None if bias is None else torch.zeros(bias, dtype=torch.float16, device="cuda"),
        )


def test_other_types_are_refused():
    gradient, images = (tensor.cuda() for tensor in both((2, 32, 32, 4, 16), torch.float32))
    with pytest.raises(TypeError, match="float16 or bfloat16, got Float"):
        weight_gradient(gradient, images)
    with pytest.raises(TypeError, match="float16 or bfloat16, got Half and Float"):
        convolve(images.half(), images.new_zeros(32, 32, 3, 3))
