"""Images with their labels, spurious attributes, splits and object regions.

`load_dataset` reads a folder or a table of image files, `ImageTable` is one split of it, and
`image_batches` turns its images into tensors, `recomposed_batches` after putting each object on another background.
"""

from slim.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__)
