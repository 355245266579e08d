"""One way to train, for the reference model and for the retrained one.

`settings` says how, `sources` where batches come from, `loop` what a step and an epoch do, `checkpoint` how a killed
training goes on, and `fitting` puts them together.
"""

from slim.training.fitting import fit, train
from slim.training.loop import CHECKPOINT_SECONDS, Training
from slim.training.settings import TrainSettings

__all__ = ["CHECKPOINT_SECONDS", "TrainSettings", "Training", "fit", "train"]
