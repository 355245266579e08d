"""One way to train, for the reference model and for the retrained one.

`settings` holds the settings, `sources` yields batches, `loop` runs steps and epochs, `checkpoint` lets a killed
training resume, and `fitting` puts them together.
"""

from slim.training.fitting import fit, train_classifier
from slim.training.loop import CHECKPOINT_SECONDS, Training
from slim.training.settings import TrainSettings

__all__ = ["CHECKPOINT_SECONDS", "TrainSettings", "Training", "fit", "train_classifier"]
