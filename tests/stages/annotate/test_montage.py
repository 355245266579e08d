"""The picture of queries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from slim import Queries
from slim.stages.annotate.montage import TILE, montage

Ask = Callable[..., Queries]


def test_montage_shows_the_photo_beside_its_attention(ask_about: Ask) -> None:
    queries = ask_about(0, 1, maps=np.array([[[0.0, 1.0]], [[0.0, 0.0]]]))
    page = np.asarray(montage(list(queries), "cat"))
    photos = [np.array(query.photo().getpixel((0, 0))) for query in queries]
    plain = [(page == colour).all(-1).sum() for colour in photos]
    # The attended image is plain only in its photo (and where it is not looked at), the other one in both pictures.
    assert TILE * TILE <= plain[0] < 1.6 * TILE * TILE
    assert plain[1] == 2 * TILE * TILE
