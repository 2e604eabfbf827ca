"""`python -m pydyn`: the same as `pydyn`."""

from pydyn.cli import main

main()
