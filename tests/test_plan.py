"""Marks of jobs that Snakemake would believe, and this does not."""

import json
from pathlib import Path
from typing import Any

import pytest

from pydyn.config.main import overlay
from pydyn.data.prepare import prepare
from pydyn.plan import Plan, forget_false_marks, forget_other_stores, make_plan

RAW: dict[str, Any] = {
    "studies": ["shapes"],
    "datasets": {"figures": {"source": "shapes"}},
    "shapes": {
        "trainings": [{"dataset": "figures", "epochs": 2, "filters": ["2-2", "4-4"]}],
        "causes": [],
        "analyses": [{"dataset": "figures", "filters": "2-2"}],
    },
}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Of a workflow that is complete by its files' names."""
    plan = make_plan({**RAW, "results": str(tmp_path)})
    for name, chunk in plan.chunks["shapes"].items():
        made = [{"id": run.id, "digest": run.digest, "fingerprint": "f" * 16} for run in chunk.runs]
        mark = tmp_path / "shapes" / "chunks" / f"{name}.json"
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(json.dumps({"runs": made}))
        for run in chunk.runs:
            run.directory(tmp_path).mkdir(parents=True)
            for file in run.complete:
                (run.directory(tmp_path) / file).touch()
    return plan


def names(marks: list[Path]) -> list[str]:
    return [mark.stem for mark in marks]


def test_marks_of_complete_runs_stay(plan: Plan) -> None:
    assert forget_false_marks(plan) == []
    assert len(list((plan.results / "shapes" / "chunks").iterdir())) == sum(map(len, plan.chunks.values()))


def test_a_mark_of_runs_that_are_gone_is_forgotten(plan: Plan) -> None:
    first, *_ = plan.chunks["shapes"]
    run = plan.chunks["shapes"][first].runs[0]
    (run.directory(plan.results) / "summary.json").unlink()
    assert names(forget_false_marks(plan)) == [first]
    assert forget_false_marks(plan) == []


def test_marks_of_another_configuration_are_forgotten_though_the_ids_are_the_same(plan: Plan) -> None:
    """Snakemake tells by records that another clone of the workflow, on the same results, has not."""
    other = make_plan(overlay({**RAW, "results": str(plan.results)}, {"shapes": {"similar_above": 50}}))
    changed = [name for name in plan.chunks["shapes"] if name.startswith("analysis__")]
    assert changed and plan.chunks["shapes"].keys() == other.chunks["shapes"].keys()
    assert names(forget_false_marks(other)) == changed


@pytest.mark.parametrize("content", ["", "[]", '{"runs": [1]}', '{"runs": [{}]}'])
def test_a_mark_that_cannot_be_read_is_forgotten(plan: Plan, content: str) -> None:
    first, *_ = plan.chunks["shapes"]
    (plan.results / "shapes" / "chunks" / f"{first}.json").write_text(content)
    assert names(forget_false_marks(plan)) == [first]


def test_a_store_of_another_declaration_is_forgotten(tmp_path: Path) -> None:
    """As where a workflow's records are gone, or another clone's are looked at."""
    figures = {"source": "shapes", "train": 12, "test": 6, "image_size": 16}
    raw = {**RAW, "results": str(tmp_path), "datasets": {"figures": figures}}
    plan = make_plan(raw)
    assert forget_other_stores(plan) == []
    prepare("figures", plan.config.datasets["figures"], Path(plan.config.data_root), plan.store("figures"))
    assert forget_other_stores(plan) == []
    changed = make_plan({**raw, "datasets": {"figures": {**figures, "image_size": 32}}})
    assert forget_other_stores(changed) == [plan.store("figures")]
    assert not plan.store("figures").exists()


def test_a_store_that_cannot_be_read_stays_for_the_job_that_refuses_it(plan: Plan) -> None:
    store = plan.store("figures")
    store.parent.mkdir()
    store.write_bytes(b"no store")
    assert forget_other_stores(plan) == []
    assert store.exists()
