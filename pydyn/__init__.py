"""pydyn: data-efficient CNN training, and four published studies of it reproduced end to end."""

__version__ = "0.1.0"
