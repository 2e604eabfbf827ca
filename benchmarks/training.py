"""Epochs of the training loop against a textbook loop and an airbench-style one, on the same network.

    python -m benchmarks.training [--quick] [--images N] [--rounds N] [--threads N] [--json FILE]

cnn_a, batch 512, Adam, random crops of 4 pixels with padding and mirroring, N images of CIFAR's size (random bytes: what they
show does not change how long they take). Each loop lives in a process of its own, as a user would run it; they train an epoch
each in turn, after one that is not counted; medians.

- DataLoader: the textbook. A worker for each of torch's threads (where those are more than four, also with four workers),
  torchvision's transforms image by image, float32, eager. On CUDA torch computes convolutions of float32 in TF32, which has three
  bits more than bfloat16: also without.
- airbench: all images normalised and padded once, outside the timer; crops by masks, channels-last; precision as ours, torch's
  fused Adam. On CUDA as airbench has it: an epoch's images are cropped at once, since masks wait for the device, the network is
  compiled, and cuDNN tries its algorithms out; ours runs with deterministic ones, as every Run does.

On CUDA also: Runs that share the card, as threads with a stream each and as processes, against one after the other.

On a CPU both stand there twice: as written, and with the C library told to keep freed memory, as our training jobs tell it
(`pydyn.device.keep_memory`).
"""

import argparse
import statistics
import sys
from pathlib import Path

import torch

from benchmarks.contenders import FEW_WORKERS, FLOAT32, KEEPING, Contender, Sharing
from benchmarks.loops import SHARING, Setting
from benchmarks.measure import Row, device_name, write_json


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="1,024 images, two rounds: within a minute")
    parser.add_argument("--images", type=int, default=4096, help="trained in an epoch (default: 4096)")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each that count (default: 5)")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    arguments = parser.parse_args()
    if min(arguments.images, arguments.rounds, arguments.threads or 1) < 1:
        parser.error("--images, --rounds and --threads are at least 1")
    n, rounds = (1024, 2) if arguments.quick else (arguments.images, arguments.rounds)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    setting = Setting(n, arguments.threads)
    rivals = ["DataLoader", "airbench"]
    if torch.get_num_threads() > 4:  # as most people leave it
        rivals.insert(1, FEW_WORKERS)
    if setting.device.type == "cpu":
        rivals += [rival + KEEPING for rival in rivals]
    else:
        rivals.insert(1, FLOAT32)
    names = ["ours", *rivals, "selection + gather", "FLOP limit"]
    contenders: dict[str, Contender | Sharing] = {name: Contender(name, setting) for name in names}
    sharing = ["ours on streams", "ours in processes"] if setting.device.type == "cuda" else []
    if sharing:
        contenders |= {sharing[0]: Contender(sharing[0], setting), sharing[1]: Sharing(setting)}
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    try:
        for contender in contenders.values():
            contender.wait()
        for turn in range(rounds + 1):
            for name, contender in contenders.items():
                seconds = contender.epoch()
                warm_up = " (warm-up)" if turn == 0 else ""
                print(f"{name}: {n / seconds:,.0f} images/s{warm_up}", file=sys.stderr, flush=True)
                taken[name] += [seconds] if turn else []
    finally:
        for contender in contenders.values():
            contender.end()
    median = {name: statistics.median(seconds) for name, seconds in taken.items()}
    name, ours_seconds = device_name(setting.device), median["ours"]
    fraction = median["FLOP limit"] / ours_seconds
    print(f"{name}; ours in {setting.precision}, {n:,} images an epoch, medians of {rounds}")
    for loop in ("ours", *rivals):
        ratio = median[loop] / ours_seconds
        print(f"{loop:28} {n / median[loop]:10,.0f} images/s   ours is {ratio:.2f} times as fast")
    print(f"{'FLOP limit':28} {n / median['FLOP limit']:10,.0f} images/s   ours reaches {fraction:.0%} of it")
    print(f"selection and gather take {median['selection + gather'] / ours_seconds:.2%} of ours")
    for way in sharing:
        ratio = ours_seconds / median[way]
        print(
            f"{SHARING} Runs, {way:19} {n / median[way]:10,.0f} images/s   {ratio:.2f} times as fast as one after the other"
        )
    if arguments.json:
        rows = [
            Row(f"training epoch of {n}", rival, name, ours_seconds, median[rival], ratio, fraction, None, rounds)
            for rival in rivals
            for ratio in [median[rival] / ours_seconds]
        ]
        rows += [
            Row(f"training epoch of {n}, {SHARING} Runs", f"one by one, not {way}", name, *pair, None, None, rounds)
            for way in sharing
            for pair in [(median[way], ours_seconds, ours_seconds / median[way])]
        ]
        share = median["selection + gather"]
        rows.append(
            Row(
                f"selection + gather of {n}",
                "epoch",
                name,
                share,
                ours_seconds,
                ours_seconds / share,
                None,
                None,
                rounds,
            )
        )
        write_json(rows, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
