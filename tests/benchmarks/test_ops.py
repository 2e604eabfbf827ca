import json
from functools import partial

import pytest
import torch

from benchmarks.rivals import PADDING, CachedBatch, PlainBatch, TracedBatch, ambiguity_loss
from pydyn.ops import ambiguity_cross_entropy, gather_images, reference
from tests.benchmarks.running import run_benchmark

MEAN, STD = (0.5, 0.4, 0.6), (0.2, 0.3, 0.25)
run = partial(run_benchmark, "ops", "--device", "cpu")


def test_prints_a_table_and_writes_rows_and_a_plot(tmp_path):
    done = run(
        "--cases", "loss 512x10", "--rounds", 2, "--json", tmp_path / "rows.json", "--plot", tmp_path / "bars.png"
    )
    assert done.returncode == 0, done.stderr
    assert "loss 512x10" in done.stdout
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["rival"] for row in rows] == ["eager", "compile"]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["rival_seconds"] / row["ours_seconds"])
        assert row["limit_fraction"] > 0
        assert row["bytes"] == 2 * 512 * 10 * 4
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "no such case"], "no case holds that"),
        (["--threads", 0], "--threads 0 is not at least 1"),
        pytest.param(
            ["--device", "cuda"],
            "torch sees no GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there"),
        ),
    ],
)
def test_wrong_arguments_are_refused_in_a_line(arguments, message):
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]


def test_the_rivals_make_the_same_batches():
    images = torch.randint(0, 256, (40, 32, 32, 3), dtype=torch.uint8)
    index = torch.randperm(40)[:16]
    words = reference.philox(3, index, torch.full_like(index, 7), 0)
    down, right = (word * (2 * PADDING + 1) >> 32 for word in words[:2])
    flipped = words[2] >> 31 == 1
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    ours = gather_images(images, index, MEAN, STD, crop_padding=PADDING, flip=True, seed=3, epoch=7)
    for rival in (TracedBatch, CachedBatch):
        batch = rival(images, mean, std, torch.float32)(index, down, right, flipped)
        torch.testing.assert_close(batch, ours, rtol=1e-5, atol=1e-5)
    plain = PlainBatch(images, mean, std)(index)
    torch.testing.assert_close(plain, gather_images(images, index, MEAN, STD), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("topk", [True, False])
def test_the_rivals_compute_the_same_loss(topk):
    logits, target = torch.randn(3, 50, 10), torch.randint(0, 10, (50,))
    strength = torch.tensor([0.0, 1.0, 2.0])
    wanted = ambiguity_cross_entropy(logits, target, strength=strength, power=2.0)
    torch.testing.assert_close(ambiguity_loss(topk)(logits, target, strength[:, None]), wanted)
