"""Every selection strategy by name. A new strategy is a class in a file of its own and a line here."""

from typing import Any

from pydyn.selection.controls import Fixed, Full
from pydyn.selection.dynamic import Dynamic
from pydyn.selection.fresh import Fresh
from pydyn.selection.infobatch import InfoBatch
from pydyn.selection.strategy import Parameters

STRATEGIES: dict[str, type[Parameters]] = {
    "full": Full,
    "fixed": Fixed,
    "fresh": Fresh,
    "infobatch": InfoBatch,
    "dynamic": Dynamic,
}


def from_dict(declared: dict[str, Any]) -> Parameters:
    """A strategy's parameters from their dictionary form, `name` included. Raises ValueError for an unknown name."""
    name = declared.get("name")
    if name not in STRATEGIES:
        raise ValueError(f"strategy {name!r} is unknown, allowed are {', '.join(STRATEGIES)}")
    return STRATEGIES[name](**declared)
