"""What a stage of work took: seconds, energy, emissions, and how well each is known."""

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import isnan
from typing import Any, Self

from pydyn.errors import ConfigError
from pydyn.processor import seconds_waited

# What codecarbon calls its ways of knowing a processor's power. Counters know nothing of processes.
MEASURED = {
    "intel_rapl": "measured (RAPL, all that runs on the machine)",
    "intel_power_gadget": "measured (Power Gadget, all that runs on the machine)",
    "apple_powermetrics": "measured (all that runs on the machine)",
}
SECONDS_BETWEEN_READINGS = 5.0


@dataclass(frozen=True)
class Component:
    """Energy of one part of the machine."""

    kwh: float
    source: str
    """`measured (...)`, or `estimate (...)` and from what."""


@dataclass(frozen=True)
class Reading:
    """What a stage took. Energy and emissions are None where there is no reading; `problem` then says why."""

    seconds: float
    kwh: float | None
    kg_co2: float | None
    """CO2 equivalents, at the mean intensity of the country's electricity."""
    components: dict[str, Component]
    country: str
    problem: str | None = None
    seconds_waiting: float | None = None
    """Of the seconds, those in which the thread that did the work was ready and other work had the processors; None where the
    system does not tell."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def part(self, share: float) -> "Reading":
        """What a share of the work took, all of it costing the same; `share` in 0..1."""
        components = {name: Component(part.kwh * share, part.source) for name, part in self.components.items()}
        kwh, kg_co2, waiting = (
            None if value is None else value * share for value in (self.kwh, self.kg_co2, self.seconds_waiting)
        )
        return Reading(self.seconds * share, kwh, kg_co2, components, self.country, self.problem, waiting)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises TypeError or KeyError for other values."""
        components = {name: Component(**component) for name, component in values["components"].items()}
        return cls(**{**values, "components": components})


def total(readings: Sequence[Reading]) -> Reading:
    """What several stages took together; without energy if one of them has none. At least one, all of one country."""
    problem = next((reading.problem for reading in readings if reading.kwh is None), None)
    seconds, country = sum(reading.seconds for reading in readings), readings[0].country
    waits = [reading.seconds_waiting for reading in readings if reading.seconds_waiting is not None]
    waiting = sum(waits) if len(waits) == len(readings) else None
    if problem is not None:
        return Reading(seconds, None, None, {}, country, problem, waiting)
    components = {
        name: Component(
            sum(reading.components[name].kwh for reading in readings if name in reading.components), component.source
        )
        for reading in readings
        for name, component in reading.components.items()
    }
    return Reading(
        seconds,
        sum(reading.kwh or 0.0 for reading in readings),
        sum(reading.kg_co2 or 0.0 for reading in readings),
        components,
        country,
        seconds_waiting=waiting,
    )


def check_country(code: str) -> None:
    """Raise ConfigError unless `code` is one of ISO 3166's codes of three letters: codecarbon takes any, and says nothing."""
    import pycountry

    if pycountry.countries.get(alpha_3=code) is None or not code.isupper():
        raise ConfigError(f"country = {code!r} must be a code of three letters of ISO 3166, such as ESP, DEU or USA")


class Meter:
    """Measures the work inside a `with` block. Its `reading` is there afterwards.

    Seconds are wall time. Energy is of this process alone where it is an estimate; counters count all that runs on the machine,
    or on its GPUs, as each component's source says. Nothing here ever ends the work: without
    a reading the work goes on and the reading says so.

    Example::

        with Meter("ESP") as meter:
            train()
        print(meter.reading.kwh)
    """

    def __init__(self, country: str) -> None:
        self._country = country
        self._tracker: Any = None
        self._problem: str | None = None
        self._start = self._waited = 0.0
        self.reading = Reading(0.0, None, None, {}, country, "nothing was measured yet")

    def __enter__(self) -> Self:
        """Begin."""
        # It speaks before it reads its own option; what matters of it is in the reading.
        logging.getLogger("codecarbon").addFilter(_nothing)
        try:
            from codecarbon import OfflineEmissionsTracker

            self._tracker = OfflineEmissionsTracker(
                country_iso_code=self._country,
                output_methods=[],
                log_level="critical",
                tracking_mode="process",
                allow_multiple_runs=True,
                measure_power_secs=SECONDS_BETWEEN_READINGS,
            )
            self._tracker.start()
        except Exception as error:  # it probes hardware in many ways
            self._tracker, self._problem = None, f"codecarbon does not start ({type(error).__name__}: {error})"
        self._start, self._waited = time.perf_counter(), seconds_waited()
        return self

    def __exit__(self, *exception: object) -> None:
        """End, and read."""
        seconds, waiting = time.perf_counter() - self._start, seconds_waited() - self._waited
        self.reading = replace(self._read(seconds), seconds_waiting=None if isnan(waiting) else waiting)

    def _read(self, seconds: float) -> Reading:
        def without(problem: str | None) -> Reading:
            return Reading(seconds, None, None, {}, self._country, problem)

        if self._tracker is None:
            return without(self._problem)
        try:
            emissions = self._tracker.stop()
            data = self._tracker.final_emissions_data
            components = _components(self._tracker, data)
        except Exception as error:
            return without(f"codecarbon gives no reading ({type(error).__name__}: {error})")
        if "GPU" not in components and _computes_on_gpu():
            return without("codecarbon reads nothing of the GPU that is in use")
        if emissions is None or not data.energy_consumed > 0:
            return without("codecarbon gives no reading: the work was too short")
        return Reading(seconds, float(data.energy_consumed), float(emissions), components, self._country)


def _computes_on_gpu() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def _nothing(record: logging.LogRecord) -> bool:
    return False


def _components(tracker: Any, data: Any) -> dict[str, Component]:
    found = {}
    for part in tracker._hardware:
        kind = type(part).__name__.lower()
        if kind == "cpu":
            mode = getattr(part, "_mode", "")
            how = f"estimate (this process's load x {part._tdp:g} W assumed for {data.cpu_model})"
            found["CPU"] = Component(float(data.cpu_energy), MEASURED.get(mode, how))
        elif kind == "gpu":
            # Without CUDA_VISIBLE_DEVICES codecarbon counts all cards that there are.
            cards = "one card" if len(part.gpu_ids) == 1 else f"{len(part.gpu_ids)} cards"
            found["GPU"] = Component(
                float(data.gpu_energy), f"measured (the driver's counter, all that runs on {cards})"
            )
        elif kind == "ram":
            found["memory"] = Component(float(data.ram_energy), "estimate (watts by this process's memory)")
    return found
