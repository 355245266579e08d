"""The picture of queries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from slim import Queries
from slim.data import ImageTable
from slim.stages.annotate.montage import GRID, TILE, montage

Ask = Callable[..., Queries]


def test_montage_shows_the_photo_beside_its_attention(ask_about: Ask) -> None:
    queries = ask_about(0, 1, maps=np.array([[[0.0, 1.0]], [[0.0, 0.0]]]))
    page = np.asarray(montage(list(queries), "cat"))
    photos = [np.array(query.photo().getpixel((0, 0))) for query in queries]
    plain = [(page == colour).all(-1).sum() for colour in photos]
    # The attended image is plain only in its photo (and where it is not looked at), the other one in both pictures;
    # the lines of the grid cover less than a fifth of the photo.
    assert 0.8 * TILE * TILE <= plain[0] < 1.6 * TILE * TILE
    assert 1.8 * TILE * TILE <= plain[1] < 2 * TILE * TILE


def test_montage_divides_a_photo_of_any_shape_into_the_cells_of_the_grid(ask_about: Ask, pool: ImageTable) -> None:
    colour = (20, 90, 200)
    Image.new("RGB", (120, 60), colour).save(pool.paths[0])
    (query,) = ask_about(0, maps=np.ones((1, 2, 2)))
    page = np.asarray(montage([query], "cat"))
    rows, columns = np.nonzero((page == colour).all(-1))
    top, left = rows.min(), columns.min()
    assert rows.max() - top + 1 == TILE / 2
    for place in GRID.values():
        assert tuple(page[top + int(place.y * TILE / 2), left + int(place.x * TILE)]) == colour
    edges = [page[top + 5, left + TILE * i // 8] for i in range(1, 8)] + [
        page[top + TILE * i // 16, left + 5] for i in range(1, 8)
    ]
    assert all(tuple(edge) != colour for edge in edges)
