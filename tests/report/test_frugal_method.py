"""The method of the study `frugal` in words: as it was configured."""

from pathlib import Path

from tests.report.frugal_pages import report


def test_the_ambiguity_weight_stands_there_with_its_numbers(tmp_path: Path) -> None:
    page, _ = report(tmp_path, {"frugal": {"splits": ["declared"], "heads": {"strength": 1.5, "power": 3.0}}})
    assert "by 1 + λ (1 − margin)^κ with λ = 1.5 and κ = 3, the margin being" in page


def test_its_other_forms_are_said_as_they_are(tmp_path: Path) -> None:
    forms = {"strength": 2.0, "threshold": 0.25, "normalisation": "weighted_mean"}
    page, _ = report(tmp_path, {"frugal": {"splits": ["declared"], "heads": forms}})
    assert "by 1 + λ where the margin is below τ, with λ = 2 and τ = 0.25 (the sum of the losses" in page
    assert "is divided by that of the weights), the margin being" in page
