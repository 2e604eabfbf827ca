"""Every selection strategy: a new one is a class in a file of its own and its name here."""

from typing import Any, get_args

from pydyn.selection.controls import Fixed, Full
from pydyn.selection.dynamic import Dynamic
from pydyn.selection.fresh import Fresh
from pydyn.selection.infobatch import InfoBatch
from pydyn.selection.strategy import Parameters

AnyStrategy = Full | Fixed | Fresh | InfoBatch | Dynamic
"""What a configuration may declare; the plainest first, in whose order the report compares them."""

STRATEGIES: dict[str, type[Parameters]] = {kind.name: kind for kind in get_args(AnyStrategy)}


def from_dict(declared: dict[str, Any]) -> Parameters:
    """A strategy's parameters from their dictionary form, `name` included. Raises ValueError for an unknown name."""
    name = declared.get("name")
    if name not in STRATEGIES:
        raise ValueError(f"strategy {name!r} is unknown, allowed are {', '.join(STRATEGIES)}")
    return STRATEGIES[name](**declared)
