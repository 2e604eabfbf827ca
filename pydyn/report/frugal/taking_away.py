"""How to use what was trained, and which head the validation images would choose."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from pydyn.report.blocks import Paragraph
from pydyn.report.frugal.read import Row
from pydyn.report.tables import number
from pydyn.training.frugal_summary import FrugalSummary


def to_take_away(ours: Row, rows: Sequence[Row], results: Path) -> Paragraph:
    """The command that exports the proposed method's classifier; and another head's, if validation images speak for that.

    Chosen by test images, its accuracy on them would flatter it.
    """
    text = (
        f"To use this classifier on other images: pydyn export {_folder(ours, results)} --output model, then pydyn predict model "
        "IMAGES (or --onnx for other runtimes)."
    )
    heads = [row for row in rows if not row.is_fine_tuning and len(row.results) == len(ours.results)]
    best = max(heads, key=_on_validation)
    if _on_validation(best) > _on_validation(ours):
        text += (
            f" Of the heads, on the validation images ({min(summary.n_validation for summary in ours.results):,} in a replicate) "
            f"not this one is best but “{best.name}”, with a balanced accuracy of {number(_on_validation(best), 1)} % against "
            f"{number(_on_validation(ours), 1)} %: it is {_folder(best, results)}."
        )
    return Paragraph(text)


def _folder(row: Row, results: Path) -> str:
    return shlex.quote(str(row.run.directory(results)))


def _on_validation(row: Row) -> float:
    def share(summary: FrugalSummary) -> float:
        return 100 * summary.validation.balanced_accuracy

    return sum(map(share, row.results)) / len(row.results)
