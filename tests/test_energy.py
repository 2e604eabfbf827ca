"""Energy: a reading with its sources, or a reason why there is none; never the end of the work."""

from types import SimpleNamespace

import codecarbon
import pytest
import torch  # noqa: F401 (a meter asks whether it computes on a GPU)

from pydyn.energy import Component, Meter, Reading, _components, check_country, total
from pydyn.errors import ConfigError


def work():
    return sum(range(3 * 10**6))


def test_a_reading_says_where_each_figure_comes_from(capfd):
    with Meter("ESP") as meter:
        work()
    reading = meter.reading
    assert reading.problem is None
    assert 0 < reading.seconds < 60
    assert reading.kwh == pytest.approx(sum(part.kwh for part in reading.components.values()), rel=1e-6)
    # Spain's mix has been between 0.05 and 0.5 kg a kWh in all years there are figures for.
    assert 0.05 < reading.kg_co2 / reading.kwh < 0.5
    assert {"CPU", "memory"} <= set(reading.components)
    assert all(part.source.startswith(("measured", "estimate")) for part in reading.components.values())
    assert Reading.from_dict(reading.to_dict()) == reading
    assert capfd.readouterr() == ("", "")


def test_the_country_matters():
    readings = {}
    for country in ("POL", "SWE"):
        with Meter(country) as meter:
            work()
        readings[country] = meter.reading.kg_co2 / meter.reading.kwh
    assert readings["POL"] > 5 * readings["SWE"]


@pytest.mark.parametrize("fails_in", ["__init__", "start", "stop"])
def test_without_a_reading_the_work_goes_on_and_the_reading_says_why(monkeypatch, fails_in):
    def fail(self, *arguments, **options):
        raise RuntimeError("no sensor")

    monkeypatch.setattr(codecarbon.OfflineEmissionsTracker, fails_in, fail)
    with Meter("ESP") as meter:
        done = work()
    assert done == work()
    assert (meter.reading.kwh, meter.reading.kg_co2, meter.reading.components) == (None, None, {})
    assert "RuntimeError: no sensor" in meter.reading.problem
    assert meter.reading.seconds > 0


def test_an_empty_reading_is_no_zero(monkeypatch):
    monkeypatch.setattr(codecarbon.OfflineEmissionsTracker, "stop", lambda self: None)
    with Meter("ESP") as meter:
        work()
    assert meter.reading.kwh is None
    assert meter.reading.problem


@pytest.mark.parametrize(("before", "after", "told"), [(1.0, 3.5, 2.5), (float("nan"), float("nan"), None)])
def test_seconds_in_which_other_work_had_the_processors_are_told(monkeypatch, before, after, told):
    counts = iter((before, after))
    monkeypatch.setattr("pydyn.energy.seconds_waited", lambda: next(counts))
    with Meter("ESP") as meter:
        work()
    assert meter.reading.seconds_waiting == told
    assert Reading.from_dict(meter.reading.to_dict()) == meter.reading


def test_waiting_is_divided_and_added_up_as_seconds_are():
    readings = [Reading(10.0, None, None, {}, "ESP", "why", seconds_waiting=wait) for wait in (4.0, 1.0, None)]
    assert readings[0].part(0.25).seconds_waiting == 1.0
    assert total(readings[:2]).seconds_waiting == 5.0
    assert total(readings).seconds_waiting is None
    known = [Reading(10.0, 1.0, 1.0, {}, "ESP", seconds_waiting=wait) for wait in (4.0, 1.0)]
    assert total(known).seconds_waiting == 5.0


def test_energy_and_emissions_are_divided_and_added_up_part_by_part():
    one = Reading(10.0, 3.0, 0.5, {"CPU": Component(2.0, "a"), "memory": Component(1.0, "b")}, "ESP")
    other = Reading(30.0, 4.0, 0.25, {"CPU": Component(4.0, "a")}, "ESP")
    part = {"CPU": Component(0.5, "a"), "memory": Component(0.25, "b")}
    assert one.part(0.25) == Reading(2.5, 0.75, 0.125, part, "ESP")
    whole = {"CPU": Component(6.0, "a"), "memory": Component(1.0, "b")}
    assert total([one, other]) == Reading(40.0, 7.0, 0.75, whole, "ESP")
    without = Reading(5.0, None, None, {}, "ESP", "no sensor")
    assert without.part(0.5) == Reading(2.5, None, None, {}, "ESP", "no sensor")
    assert total([one, without]) == Reading(15.0, None, None, {}, "ESP", "no sensor")


def test_an_error_of_the_work_is_not_hidden():
    with pytest.raises(ZeroDivisionError), Meter("ESP"):
        _ = 1 / 0


@pytest.mark.parametrize("code", ["XX", "XXX", "Spain", "esp", ""])
def test_unknown_countries_are_refused(code):
    with pytest.raises(ConfigError, match=f"country = {code!r} must be a code of three letters"):
        check_country(code)


class GPU:
    """As codecarbon's: the cards that it counts."""

    def __init__(self, n_cards):
        self.gpu_ids = list(range(n_cards))


@pytest.mark.parametrize(("n_cards", "told"), [(1, "one card"), (8, "8 cards")])
def test_of_gpus_all_that_runs_on_them_is_counted_and_said(n_cards, told):
    tracker, data = SimpleNamespace(_hardware=[GPU(n_cards)]), SimpleNamespace(gpu_energy=2.0)
    assert _components(tracker, data)["GPU"] == Component(
        2.0, f"measured (the driver's counter, all that runs on {told})"
    )


def test_a_gpu_whose_power_is_not_read_is_no_cpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    with Meter("ESP") as meter:
        work()
    assert (meter.reading.kwh, meter.reading.kg_co2, meter.reading.components) == (None, None, {})
    assert meter.reading.problem == "codecarbon reads nothing of the GPU that is in use"
