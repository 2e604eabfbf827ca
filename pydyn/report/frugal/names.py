"""How the study `frugal` names things."""

SPLITS = {"declared": "as the data set declares its split", "image": "split image by image"}
