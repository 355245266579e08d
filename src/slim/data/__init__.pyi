from slim.data.batches import Augmentation, ImageBatches, image_batches
from slim.data.inspection import Fault, Inspection, check
from slim.data.loading import load_dataset
from slim.data.recompose import Recomposition, recomposed_batches
from slim.data.splits import SPLITS
from slim.data.table import Dataset, ImageTable

__all__ = [
    "SPLITS",
    "Augmentation",
    "Dataset",
    "Fault",
    "ImageBatches",
    "ImageTable",
    "Inspection",
    "Recomposition",
    "check",
    "image_batches",
    "load_dataset",
    "recomposed_batches",
]
