"""What a page is made of, tables and drawings apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydyn.report.figures import Drawing
from pydyn.report.tables import Table


@dataclass(frozen=True)
class Paragraph:
    """A few sentences."""

    kind: ClassVar[str] = "paragraph"

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Facts:
    """Terms, and what is to be said of each."""

    kind: ClassVar[str] = "facts"

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Source:
    """A text to be shown letter by letter, when opened."""

    kind: ClassVar[str] = "source"

    title: str
    text: str


@dataclass(frozen=True)
class Heading:
    """Of a part of a section."""

    kind: ClassVar[str] = "heading"

    text: str


Block = Paragraph | Facts | Source | Heading | Table | Drawing


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    anchor: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class StudyReport:
    """What a study contributes to the page."""

    title: str
    facts: Facts
    findings: Sequence[str]
    """What came out, a plain sentence each."""
    caveats: Sequence[str]
    """What the figures must not be taken for."""
    sections: Sequence[Section]
