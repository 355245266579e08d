"""Images with their labels, spurious attributes, splits and object regions.

`load_dataset` reads a folder or a table of image files, `ImageTable` is one split of it, and
`image_batches` turns its images into tensors.
"""

from slim.datasets.batches import Augmentation, ImageBatches, image_batches
from slim.datasets.loading import load_dataset
from slim.datasets.table import Dataset, ImageTable

__all__ = ["Augmentation", "Dataset", "ImageBatches", "ImageTable", "image_batches", "load_dataset"]
