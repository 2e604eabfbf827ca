"""Seeds that belong to purposes."""

from pydyn.seeding import derive_seed


def test_seeds_of_different_purposes_differ_and_never_change():
    assert derive_seed(0, "order", 1) != derive_seed(0, "order", 11)
    assert derive_seed(0, "order", 1) != derive_seed(0, "selection", 1)
    assert derive_seed(0, "selection") == 8_166_779_651_254_753_654
