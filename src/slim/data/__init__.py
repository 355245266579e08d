"""Images with their labels, spurious attributes, splits and object regions.

`load_dataset` reads a folder or a table of image files, `ImageTable` is one split of it, and
`image_batches` turns its images into tensors, `recomposed_batches` after putting each object on another background.
"""

from slim.data.batches import Augmentation, ImageBatches, image_batches
from slim.data.loading import load_dataset
from slim.data.recompose import Recomposition, recomposed_batches
from slim.data.splits import SPLITS
from slim.data.table import Dataset, ImageTable

__all__ = [
    "SPLITS",
    "Augmentation",
    "Dataset",
    "ImageBatches",
    "ImageTable",
    "Recomposition",
    "image_batches",
    "load_dataset",
    "recomposed_batches",
]
