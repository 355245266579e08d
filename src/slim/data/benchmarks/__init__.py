"""The published benchmarks by name, each read in the layout in which it is published.

`NAMES` is all that costs nothing to import; `slim.data.benchmarks.registry` holds the rest.
"""

NAMES = ("waterbirds", "waterbirds-fixed", "celeba", "isic", "nico", "imagenet9")
"""Names that `slim.load_dataset`, ``slim data`` and ``--data`` take."""
