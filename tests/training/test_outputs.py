"""What a network may return while it is trained, and what its caller may have switched on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from tests.training.conftest import FAST, Net, assert_same_training, model_of
from torch import Tensor, nn

from slim.data import ImageTable
from slim.errors import ModelError
from slim.training import fit, train_classifier
from slim.training.fitting import _has_idle
from slim.training.settings import Task


class Outputs(NamedTuple):
    """As torchvision's Inception and GoogLeNet return them."""

    logits: Tensor
    aux_logits: Tensor


CHANGES: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda logits: (logits, -logits),
    "named tuple": lambda logits: Outputs(logits, -logits),
    "one": lambda logits: (logits,),
    "features first": lambda logits: (logits.repeat(1, 4), logits),
    "mapping": lambda logits: {"logits": logits},
    "nothing": lambda logits: (None, logits),
}


class Auxiliary(Net):
    """Returns more than the logits in training mode."""

    def __init__(self, change: str) -> None:
        super().__init__()
        self.change = change

    def forward(self, images: Tensor) -> Any:
        logits = super().forward(images)
        return CHANGES[self.change](logits) if self.training else logits


@pytest.mark.parametrize("trainable", ["all", "stage"])
@pytest.mark.parametrize("change", ["tuple", "named tuple", "one"])
def test_auxiliary_logits_after_the_main_ones_are_left_out(table: ImageTable, change: str, trainable: str) -> None:
    settings = replace(FAST, epochs=1, trainable=trainable)
    plain = fit(table, table, settings, initial=model_of())
    assert_same_training(fit(table, table, settings, initial=model_of(lambda: Auxiliary(change))), plain)


class Idle(Net):
    """Returns the logits of an auxiliary head too, in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Any:
        logits = super().forward(images)
        return (logits, self.auxiliary(images.mean((2, 3)))) if self.training else logits


@pytest.mark.parametrize(
    ("make", "trainable", "idle"), [(Idle, "all", True), (Idle, "stage", False), (Net, "all", False)]
)
def test_parameters_without_gradient_are_found(
    table: ImageTable, make: Callable[[], nn.Module], trainable: str, idle: bool
) -> None:
    assert _has_idle(model_of(make), Task(table, table, replace(FAST, trainable=trainable), 0)) == idle


@pytest.mark.parametrize(
    ("change", "got"), [("features first", r"\(4, 8\)"), ("mapping", "dict"), ("nothing", "tuple of NoneType")]
)
def test_other_outputs_are_refused(table: ImageTable, change: str, got: str) -> None:
    with pytest.raises(ModelError, match=rf"In training mode .* first in a tuple\. Got .*{got}"):
        train_classifier(table, table, FAST, initial=model_of(lambda: Auxiliary(change)))


@pytest.mark.parametrize(
    "context", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", dtype=torch.bfloat16)]
)
def test_training_does_not_depend_on_what_the_caller_has_switched_on(
    table: ImageTable, context: Callable[[], AbstractContextManager[None]]
) -> None:
    first, settings = model_of(), replace(FAST, epochs=1)
    plain = fit(table, table, settings, initial=first)
    with context():
        within = fit(table, table, settings, initial=first)
    assert_same_training(within, plain)
