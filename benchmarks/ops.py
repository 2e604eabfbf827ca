"""pydyn.ops against eager torch, torch.compile, airbench's way of loading, and a DataLoader.

    python -m benchmarks.ops [--quick] [--json FILE] [--plot FILE] [--device cpu|cuda] [--threads N] [--cases TEXT] [--rounds N]

Images: a pool of 50,000 of 32 x 32 x 3 bytes, batches that walk through a random permutation of it, so that each comes from
memory and not from a cache; crop of 4 pixels with black padding, flip, normalised, channels-last float32 unless a case says
otherwise. Random parameters are drawn inside the timer on both sides. Losses: forward and backward, strength 1, power 2.

"of a copy" is the physical limit: the time of `Tensor.copy_` moving as many bytes as have to move (a batch's bytes read and
its elements written; logits read and gradients written once), over ours. The copy reads, like a gather, from a region as large
as the pool, or, like a loss, from a tensor as large as the logits; it writes where it wrote before. Freed memory stays in the
process, for all alike. Caches are warm, as each leaves them to itself, except where a case says cold: what a training step
meets lies between the two.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from benchmarks.measure import Row, compare, medians, plot, table, write_json
from benchmarks.rivals import PADDING, CachedBatch, PlainBatch, TracedBatch, ambiguity_loss, draw
from pydyn.device import keep_memory
from pydyn.ops import ambiguity_cross_entropy, gather_images, gather_rows, relu_max_pool

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
N_IMAGES, SIZE = 50_000, 32
LOADER_BATCHES = 16


def compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compile for the shapes given; not a graph for each."""
    return torch.compile(function, fullgraph=True, dynamic=False)


def fastest(candidates: list[Callable[[], object]], device: torch.device) -> Callable[[], object]:
    """The rival's best form."""
    taken = medians(candidates, device, 20)
    return candidates[taken.index(min(taken))]


def batches(n_out: int, n_rows: int, device: torch.device) -> Iterator[Tensor]:
    """Walk through a random permutation, again and again."""
    order = torch.randperm(n_rows, generator=torch.Generator().manual_seed(0)).to(device)
    while True:
        yield from (part for part in order.split(n_out) if len(part) == n_out)


def copy_through(region: Tensor, n_bytes: int) -> Callable[[], object]:
    """A copy that moves n_bytes (half read, half written), reading on through a region."""
    flat = region.flatten().view(torch.uint8)
    half = n_bytes // 2
    out = torch.empty(half, dtype=torch.uint8, device=region.device)
    position = 0

    def copy() -> None:
        nonlocal position
        position = (position + half) % (len(flat) - half)
        out.copy_(flat[position : position + half])

    return copy


def image_rows(
    case: str,
    n_out: int,
    device: torch.device,
    rounds: int,
    *,
    plain: bool = False,
    dtype: torch.dtype = torch.float32,
    cold: bool = False,
) -> list[Row]:
    """Rows of a gather of images."""
    images = torch.randint(0, 256, (N_IMAGES, SIZE, SIZE, 3), dtype=torch.uint8, device=device)
    mean, std = torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)
    index = batches(n_out, N_IMAGES, device)
    augment = {} if plain else {"crop_padding": PADDING, "flip": True}

    def ours() -> Tensor:
        return gather_images(images, next(index), MEAN, STD, seed=1, epoch=2, dtype=dtype, **augment)

    def rival(batch: Callable[..., Tensor]) -> Callable[[], object]:
        return (lambda: batch(next(index))) if plain else (lambda: batch(next(index), *draw(n_out, device)))

    traced = PlainBatch(images, mean, std) if plain else TracedBatch(images, mean, std, dtype)
    rivals = {"eager": rival(traced), "compile": rival(compiled(traced))}
    if not plain:
        cached_dtype = torch.float16 if device.type == "cuda" else dtype
        rivals["airbench"] = rival(CachedBatch(images, mean, std, cached_dtype))
    n_bytes = n_out * SIZE * SIZE * 3 * (1 + dtype.itemsize)
    return compare(case, ours, rivals, device, rounds, copy_through(images, n_bytes), n_bytes, cold)


def loader_rows(case: str, n_out: int, device: torch.device, rounds: int) -> list[Row]:
    """Rows of a DataLoader with two workers that transform image by image, for some batches on end.

    A turn of its ends with idle workers: they would take the cores from ours, which follows.
    """
    from torch.utils.data import DataLoader, RandomSampler, TensorDataset
    from torchvision.transforms import v2

    images = torch.randint(0, 256, (N_IMAGES, SIZE, SIZE, 3), dtype=torch.uint8)
    transform = v2.Compose(
        [
            v2.RandomCrop(SIZE, PADDING),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )

    class Transformed(TensorDataset):
        def __getitem__(self, position: int) -> Tensor:
            return transform(self.tensors[0][position])

    dataset = Transformed(images.permute(0, 3, 1, 2))
    sampler = RandomSampler(dataset, num_samples=LOADER_BATCHES * n_out)
    loader = DataLoader(dataset, n_out, sampler=sampler, num_workers=2, persistent_workers=True)
    on_device, index = images.to(device), batches(n_out, N_IMAGES, device)

    def ours() -> None:
        for _ in range(LOADER_BATCHES):
            gather_images(on_device, next(index), MEAN, STD, crop_padding=PADDING, flip=True)

    def theirs() -> None:
        for batch in loader:
            batch.to(device)

    return compare(case, ours, {"DataLoader": theirs}, device, min(rounds, 10))


def feature_rows(case: str, n_out: int, device: torch.device, rounds: int) -> list[Row]:
    """Rows of a gather of float16 features as float32, with labels."""
    features = torch.randn(N_IMAGES, 1280, device=device).half()
    labels = torch.randint(0, 10, (N_IMAGES,), device=device)
    index = batches(n_out, N_IMAGES, device)

    def eager(rows: Tensor) -> tuple[Tensor, Tensor]:
        return features[rows].float(), labels[rows]

    fused = compiled(eager)
    rivals = {"eager": lambda: eager(next(index)), "compile": lambda: fused(next(index))}
    n_bytes = n_out * 1280 * (2 + 4)
    copy = copy_through(features, n_bytes)
    ours = lambda: gather_rows(features, next(index), labels, dtype=torch.float32)  # noqa: E731
    return compare(case, ours, rivals, device, rounds, copy, n_bytes)


def loss_rows(case: str, shape: tuple[int, ...], device: torch.device, rounds: int) -> list[Row]:
    """Rows of the loss, forward and backward."""
    logits = torch.randn(*shape, device=device, requires_grad=True)
    target = torch.randint(0, shape[-1], shape[-2:-1], device=device)
    strength: Tensor | float = torch.rand(shape[0], device=device) if len(shape) == 3 else 1.0
    factor = strength[:, None] if isinstance(strength, Tensor) else strength

    def step(loss: Callable[[], Tensor]) -> Callable[[], object]:
        def run() -> None:
            logits.grad = None
            value = loss()
            (value if value.dim() == 0 else value.sum()).backward()

        return run

    forms = [ambiguity_loss(topk=True), ambiguity_loss(topk=False)]
    rivals = {
        "eager": fastest([step(lambda form=form: form(logits, target, factor)) for form in forms], device),
        "compile": fastest(
            [step(lambda form=form: form(logits, target, factor)) for form in map(compiled, forms)], device
        ),
    }
    n_bytes = 2 * logits.numel() * logits.element_size()
    source, out = logits.detach(), torch.empty_like(logits)
    ours = step(lambda: ambiguity_cross_entropy(logits, target, strength=strength, power=2.0))
    return compare(case, ours, rivals, device, rounds, lambda: out.copy_(source), n_bytes)


def pool_rows(case: str, n_out: int, device: torch.device, rounds: int) -> list[Row]:
    """Rows of ReLU and max-pooling of 32 channels, bfloat16, forward and backward."""
    shape = (n_out, 32, SIZE, SIZE)
    images = torch.randn(shape, device=device).bfloat16().to(memory_format=torch.channels_last).requires_grad_()
    upstream = relu_max_pool(images).detach()

    def step(function: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(function(images), images, upstream)

    def eager(images: Tensor) -> Tensor:
        return max_pool2d(torch.relu(images), 2)

    # Read whole, a quarter written with a byte each; read again, and written whole.
    n_bytes = images.numel() * 2 * 2 + upstream.numel() * (2 + 1) * 2
    source = torch.empty(n_bytes // 2, dtype=torch.uint8, device=device)
    out = torch.empty_like(source)
    rivals = {"eager": step(eager), "compile": step(compiled(eager))}
    return compare(case, step(relu_max_pool), rivals, device, rounds, lambda: out.copy_(source), n_bytes)


def cases(device: torch.device) -> dict[str, tuple[bool, Callable[[str, int], list[Row]]]]:
    """For each case whether it is quick, and what makes its rows."""
    found: dict[str, tuple[bool, Callable[[str, int], list[Row]]]] = {}
    sizes = (128, 512, 4096) if device.type == "cpu" else (128, 512, 8192, 32768)
    for n_out in sizes:
        found[f"gather images {n_out}"] = (
            n_out == 512,
            lambda case, rounds, n_out=n_out: image_rows(case, n_out, device, rounds),
        )
    found["gather images bf16 512"] = (
        False,
        lambda case, rounds: image_rows(case, 512, device, rounds, dtype=torch.bfloat16),
    )
    found["gather images plain 512"] = False, lambda case, rounds: image_rows(case, 512, device, rounds, plain=True)
    found["gather images cold 512"] = False, lambda case, rounds: image_rows(case, 512, device, rounds, cold=True)
    found[f"gather images loader {LOADER_BATCHES}x512"] = (
        False,
        lambda case, rounds: loader_rows(case, 512, device, rounds),
    )
    for n_out in (512, 8192):
        found[f"gather rows {n_out}"] = (
            n_out == 512,
            lambda case, rounds, n_out=n_out: feature_rows(case, n_out, device, rounds),
        )
    if device.type == "cpu":
        found["relu + pool 512"] = False, lambda case, rounds: pool_rows(case, 512, device, rounds)
    for shape in ((512, 10), (65536, 10), (8192, 1000), (160, 512, 10)):
        name = f"loss {'heads ' if len(shape) == 3 else ''}{'x'.join(map(str, shape))}"
        found[name] = len(shape) == 2, lambda case, rounds, shape=shape: loss_rows(case, shape, device, rounds)
    return found


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ops", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few cases, within a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios (PNG, SVG or PDF)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--cases", default="", metavar="TEXT", help="only cases whose name holds this")
    parser.add_argument("--rounds", type=int, help="measurements of each (default: 200, quick 40)")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU")
    if arguments.threads is not None:
        if arguments.threads < 1:
            parser.error(f"--threads {arguments.threads} is not at least 1")
        torch.set_num_threads(arguments.threads)
    keep_memory()
    rounds = arguments.rounds or (40 if arguments.quick else 200)
    chosen = {
        name: make
        for name, (quick, make) in cases(torch.device(arguments.device)).items()
        if arguments.cases in name and (quick or not arguments.quick)
    }
    if not chosen:
        parser.error(f"--cases {arguments.cases!r}: no case holds that")
    rows: list[Row] = []
    for name, make in chosen.items():
        # Cases of the same functions in other shapes would be measured as dynamic shapes otherwise.
        torch.compiler.reset()
        rows += make(name, rounds)
    print(rows[0].device)
    print(table(rows))
    if arguments.json:
        write_json(rows, arguments.json)
    if arguments.plot:
        plot(rows, arguments.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
