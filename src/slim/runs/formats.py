"""Names of the formats in which judgements go to other programs and come back."""

from typing import Literal

Format = Literal["csv", "json", "label-studio", "fiftyone", "lightly"]
