"""Loggers of a training, of TensorBoard and Weights & Biases, by name; Lightning Fabric takes others as well."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from slim.errors import SettingsError
from slim.network.choices import LoggerName
from slim.optional import optional


def make_logger(name: LoggerName, folder: str | Path) -> Logger:
    """A logger that writes into a folder, and sends nothing anywhere.

    Parameters
    ----------
    name
        "tensorboard" (show it with ``tensorboard --logdir FOLDER``) or "wandb", offline (upload: ``wandb sync``).
    folder
        Where it writes.

    Raises
    ------
    SettingsError
        The name is unknown.
    SlimError
        A package is not installed.

    Examples
    --------
    ``slim.train(data, loggers=[make_logger("tensorboard", "logs")])``
    """
    if name not in get_args(LoggerName):
        raise SettingsError(f"A logger must be one of {', '.join(get_args(LoggerName))}. Got {name!r}. Name one.")
    if name == "tensorboard":
        optional("tensorboard", "tensorboard", "write its logs")
        return TensorBoardLogger(root_dir=folder, name="train", version="")
    optional("wandb", "wandb", "write its logs")
    loggers = optional("pytorch_lightning.loggers", "wandb", "write logs of Weights & Biases")
    Path(folder).mkdir(parents=True, exist_ok=True)
    logger: Logger = loggers.WandbLogger(save_dir=folder, project="slim", name=Path(folder).parent.name, offline=True)
    return logger
