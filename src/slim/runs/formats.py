"""Names of the formats in which a run's results go to other programs; judgements come back from there."""

from typing import Literal

Format = Literal["csv", "json", "label-studio", "fiftyone", "lightly"]
"""Of judgements."""

GroupFormat = Literal["wilds", "spuco"]
"""Of the groups that SLIM found."""
