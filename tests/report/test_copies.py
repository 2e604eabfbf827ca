"""Images that are the same as others are told on the page, with how many of them cross the division."""

import json
from pathlib import Path

import numpy as np
import pytest

from pydyn.data.copies import Copies
from pydyn.data.store import StoreWriter
from pydyn.report.results import read_facts
from pydyn.report.sections import data_section

# What each of nine images shows, its class, and its part: three each for training, validation and test.
SHOWN = [1, 2, 3, 4, 1, 5, 2, 6, 6]
LABELS = [0, 1, 0, 1, 0, 1, 0, 1, 1]
FILES = {"source": "folder", "path": "photos"}


def write(results: Path, shown: list[int], declaration: dict[str, str]) -> None:
    pixels = np.tile(np.array(shown, np.uint8)[:, None, None, None], (1, 8, 8, 1))
    (results / "data").mkdir(parents=True)
    with StoreWriter(results / "data" / "mine.h5", 9, (8, 8, 1)) as writer:
        writer.add(pixels)
        writer.finish(
            {"dataset": "mine", "declaration": json.dumps(declaration), "created_by": "{}"},
            {
                "labels": np.array(LABELS),
                "split": np.repeat([0, 1, 2], 3).astype(np.uint8),
                "group": np.full(9, -1, np.int32),
                "mean": np.full(1, 0.25),
                "std": np.full(1, 0.125),
            },
            {
                "class_names": ["a", "b"],
                "group_names": [],
                "source": [f"{number}.png" for number in range(9)],
                "skipped": [],
                "skipped_reason": [],
            },
        )


@pytest.mark.parametrize("block_bytes", [64, 2**24])
def test_copies_are_counted_over_the_whole_store(
    tmp_path: Path, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pydyn.data.copies.BLOCK_BYTES", block_bytes)
    write(tmp_path, SHOWN, FILES)
    # 4 is as 0, 6 as 1 but of another class and for test, 8 as 7, both for test.
    assert read_facts("mine", tmp_path).copies == Copies(
        3, ("0.png", "4.png"), in_test=1, of_other_class=1, first_of_other_class=("1.png", "6.png")
    )


def test_the_page_warns_of_them(tmp_path: Path) -> None:
    write(tmp_path, SHOWN, FILES)
    (told,) = [block.text for block in data_section([read_facts("mine", tmp_path)]).blocks if block.kind == "paragraph"]  # type: ignore[union-attr]
    assert told == (
        "Copies, pixel by pixel, of other images: 3 of 9, such as 4.png of 0.png. Test images of which the same is among those "
        "for training and validation, which flatters whatever is trained: 1 of 3, in this division. Copies of an image of "
        "another class: 1; one of the two is wrong."
    )


@pytest.mark.parametrize(
    ("shown", "declaration"),
    [(list(range(9)), FILES), (SHOWN, {"source": "shapes"}), (SHOWN, {"source": "torchvision"})],
)
def test_of_none_and_of_those_that_are_no_files_nothing_is_said(
    tmp_path: Path, shown: list[int], declaration: dict[str, str]
) -> None:
    write(tmp_path, shown, declaration)
    assert read_facts("mine", tmp_path).copies is None
