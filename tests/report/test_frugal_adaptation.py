"""What the page says of how batch normalisation was adapted."""

from pathlib import Path

from pydyn.report.frugal.adaptation import adaptation_drawing, adaptation_sentences
from pydyn.report.frugal.read import read_frugal
from tests.report.frugal_pages import report, synthesise, write_adaptation

FOLLOWING = {"frugal": {"adaptation": {"momentum": 0.1}}}
FEATURES = "frugal/features/breakhis/resnet18-imagenet"


def test_the_picture_says_how_far_statistics_moved(tmp_path: Path) -> None:
    results = read_frugal(synthesise(tmp_path, FOLLOWING)[0], tmp_path)
    drawing = adaptation_drawing(results)
    assert drawing is not None
    # 1 - 0.9^20 and 1 - 0.9^22
    assert "it took 20 to 22 batches, after which 88 % to 90 % of the running statistics" in drawing.caption
    assert "what is left of them weighs more than its share" in drawing.caption
    assert list(adaptation_sentences(results)) == []


def test_an_adaptation_that_ended_at_once_is_said_with_what_to_do(tmp_path: Path) -> None:
    config, _ = synthesise(tmp_path, FOLLOWING)
    for seed, batches in enumerate((1, 6, 7)):  # 10, 47 and 52 %
        write_adaptation(tmp_path / FEATURES / f"adapted-declared-seed{seed}", [0.01] * batches)
    (told,) = adaptation_sentences(read_frugal(config, tmp_path))
    assert told.startswith("2 of 6 adaptations of batch normalisation ended after 1 to 6 batches, with 10 % to 47 % of")
    assert "frugal.adaptation.momentum: null" in told


def test_of_means_over_all_batches_nothing_is_of_before(tmp_path: Path) -> None:
    config, _ = synthesise(tmp_path, {"frugal": {"adaptation": {"momentum": None}}})
    for folder in (tmp_path / FEATURES).glob("adapted-*"):
        write_adaptation(folder, [0.01])
    results = read_frugal(config, tmp_path)
    assert list(adaptation_sentences(results)) == []
    drawing = adaptation_drawing(results)
    assert drawing is not None
    assert drawing.caption.endswith("after which 100 % of the running statistics are of the new images.")


def test_it_stands_on_the_page(tmp_path: Path) -> None:
    page, _ = report(tmp_path, {"frugal": {"adaptation": {"momentum": 0.01}}})
    assert "6 of 6 adaptations of batch normalisation ended after" in page


def test_a_backbone_without_batch_normalisation_has_nothing_to_tell(tmp_path: Path) -> None:
    config, _ = synthesise(tmp_path)
    for folder in (tmp_path / FEATURES).glob("adapted-*"):
        write_adaptation(folder, [])
    results = read_frugal(config, tmp_path)
    assert adaptation_drawing(results) is None
    assert list(adaptation_sentences(results)) == []
