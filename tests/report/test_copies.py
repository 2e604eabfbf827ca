"""Images that are the same as others are told on the page, with how many of them cross the division."""

import json
from pathlib import Path

import numpy as np
import pytest

from pydyn.data.copies import Copies
from pydyn.data.store import StoreWriter
from pydyn.report.results import read_facts
from pydyn.report.sections import data_section

# What each of twelve images shows, its class, and its part: four each for training, validation and test.
SHOWN = [1, 2, 3, 7, 4, 1, 5, 8, 2, 2, 6, 6]
LABELS = [0, 1, 0, 1, 0, 0, 1, 1, 0, 1, 1, 1]
FILES = {"source": "folder", "path": "photos"}


def write(results: Path, shown: list[int], declaration: dict[str, str]) -> None:
    pixels = np.tile(np.array(shown, np.uint8)[:, None, None, None], (1, 8, 8, 1))
    (results / "data").mkdir(parents=True)
    with StoreWriter(results / "data" / "mine.h5", 12, (8, 8, 1)) as writer:
        writer.add(pixels)
        writer.finish(
            {"dataset": "mine", "declaration": json.dumps(declaration), "created_by": "{}"},
            {
                "labels": np.array(LABELS),
                "split": np.repeat([0, 1, 2], 4).astype(np.uint8),
                "group": np.full(12, -1, np.int32),
                "mean": np.full(1, 0.25),
                "std": np.full(1, 0.125),
            },
            {
                "class_names": ["a", "b"],
                "group_names": [],
                "source": [f"{number}.png" for number in range(12)],
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
    # 5 is as 0; 8 and 9, for test, as 1, one of them of another class; 11 as 10, both for test.
    assert read_facts("mine", tmp_path).copies == Copies(
        4, ("0.png", "5.png"), in_test=2, of_other_class=1, first_of_other_class=("1.png", "8.png")
    )


def test_the_page_warns_of_them(tmp_path: Path) -> None:
    write(tmp_path, SHOWN, FILES)
    (told,) = [block.text for block in data_section([read_facts("mine", tmp_path)]).blocks if block.kind == "paragraph"]  # type: ignore[union-attr]
    assert told == (
        "Copies, pixel by pixel, of other images: 4 of 12, such as 5.png of 0.png. Test images of which the same is among those "
        "for training and validation, which flatters whatever is trained: 2 of 4, in this division. Copies of an image of "
        "another class: 1; one of the two is wrong."
    )


@pytest.mark.parametrize(
    ("shown", "declaration"),
    [(list(range(12)), FILES), (SHOWN, {"source": "shapes"}), (SHOWN, {"source": "torchvision"})],
)
def test_of_none_and_of_those_that_are_no_files_nothing_is_said(
    tmp_path: Path, shown: list[int], declaration: dict[str, str]
) -> None:
    write(tmp_path, shown, declaration)
    assert read_facts("mine", tmp_path).copies is None
