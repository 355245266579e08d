"""What can be retrained, on what, and which models a run compares, in a module that does not import torch."""

from typing import Literal

Mode = Literal["last-layer", "full"]
Images = Literal["recomposed", "subset", "none"]
ModelKey = Literal["reference", "random_subset", "retrained"]
"""The models that every run compares."""
