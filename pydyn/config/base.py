"""What every part of the configuration has in common."""

from collections.abc import Hashable
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Item = TypeVar("Item", bound=Hashable)

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]


class Section(BaseModel):
    """A part of the configuration: immutable; unknown keys and wrong types are refused, nothing is converted silently."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def _once_each(items: list[Item]) -> list[Item]:
    twice = sorted({str(item) for item in items if items.count(item) > 1})
    if twice:
        raise ValueError(f"lists {', '.join(twice)} more than once; name each value once")
    return items


Listed = Annotated[list[Item], Field(min_length=1), AfterValidator(_once_each)]
"""At least one value, each once."""
