from slim.training.fitting import fit, train_classifier
from slim.training.loop import CHECKPOINT_SECONDS, Training
from slim.training.settings import TrainSettings

__all__ = ["CHECKPOINT_SECONDS", "TrainSettings", "Training", "fit", "train_classifier"]
