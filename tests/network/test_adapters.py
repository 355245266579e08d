"""Networks whose outputs are objects, a single logit, or one score for each of several labels."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from slim.errors import ModelError, SlimWarning
from slim.network.build import wrap
from slim.network.classifier import Classifier
from slim.network.gradcam import GradCam

pytestmark = pytest.mark.usefixtures("small_and_quiet")

Output = namedtuple("Output", "logits hidden")
PHOTOS = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Own(nn.Module):
    """A small network, and what becomes of its last layer's output."""

    def __init__(self, n_outputs: int, ending: Callable[[Tensor], Any], config: Any = None) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc, self.ending, self.config = nn.Linear(6, n_outputs), ending, config

    def forward(self, images: Tensor) -> Any:
        return self.ending(self.fc(self.features(images)))


def logits(classifier: Classifier) -> Tensor:
    return classifier.module(classifier.normalize(PHOTOS)).detach()


@pytest.mark.parametrize("ending", [lambda z: Output(z, None), lambda z: {"hidden": None, "logits": z}])
def test_logits_are_taken_out_of_objects_and_mappings(ending: Callable[[Tensor], Any]) -> None:
    module = Own(3, ending)
    classifier = wrap(module, image_size=16)
    assert (classifier.layer, classifier.head, classifier.n_classes) == ("model.features.1", "model.fc", 3)
    torch.testing.assert_close(logits(classifier), module.fc(module.features(classifier.normalize(PHOTOS))).detach())


@pytest.mark.parametrize("ending", [lambda z: z, lambda z: z.squeeze(1), lambda z: z.squeeze(-1)])
def test_single_logit_becomes_a_head_of_two_classes_with_the_same_probabilities(
    ending: Callable[[Tensor], Tensor],
) -> None:
    module = Own(1, ending)
    classifier = wrap(module, image_size=16, class_names=["cat", "dog"])
    wanted = module(classifier.normalize(PHOTOS)).detach().flatten().sigmoid()
    torch.testing.assert_close(logits(classifier).softmax(1)[:, 1], wanted)
    assert (classifier.head, classifier.linear.out_features, module.fc.out_features) == ("fc", 2, 1)


@pytest.mark.parametrize("ending", [lambda z: z.view(-1), lambda z: z[:, 0], lambda z: z + 0.5])
def test_single_logit_that_no_linear_layer_gives_becomes_two_without_a_head(ending: Callable[[Tensor], Tensor]) -> None:
    module = Own(1, ending)
    classifier = wrap(module, image_size=16)
    wanted = module(classifier.normalize(PHOTOS)).detach().flatten().sigmoid()
    torch.testing.assert_close(logits(classifier).softmax(1)[:, 1], wanted)
    assert (classifier.head, classifier.layer) == (None, "model.features.1")


def test_attention_of_a_single_logit_shows_what_speaks_for_either_class() -> None:
    torch.manual_seed(0)
    with GradCam(wrap(Own(1, lambda z: z), image_size=16)) as cam:
        forward = cam(PHOTOS[:1])
    first, second = (forward.maps(torch.tensor([label])) for label in (0, 1))
    assert first.any()
    assert second.any()
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("ending", "n_outputs", "message"),
    [
        (torch.sigmoid, 1, "must return logits. Got probabilities"),
        (lambda z: z.sigmoid().squeeze(1), 1, "must return logits. Got probabilities"),
        (torch.sigmoid, 5, "Got probabilities. .* several labels per image, SLIM cannot compare them"),
        (lambda z: z.softmax(1).clone(), 3, "must return logits. Got probabilities"),
    ],
)
def test_activations_without_a_module_are_refused(
    ending: Callable[[Tensor], Tensor], n_outputs: int, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        wrap(Own(n_outputs, ending), image_size=16)


def test_network_that_overwrites_its_input_is_taken() -> None:
    assert wrap(nn.Sequential(nn.ReLU(inplace=True), *Own(2, lambda z: z).features, nn.Linear(6, 2)), image_size=16)


def config(**values: Any) -> SimpleNamespace:
    """What a network of transformers says about itself."""
    return SimpleNamespace(**{"id2label": {1: "dog", 0: "cat"}, "image_size": 16, "problem_type": None} | values)


def test_names_and_size_are_those_of_the_config_of_transformers() -> None:
    classifier = wrap(Own(2, lambda z: Output(z, None), config()), mean=[0.5] * 3, std=[0.5] * 3)
    assert (classifier.class_names, classifier.image_size) == (("cat", "dog"), 16)
    with pytest.raises(ModelError, match="in the same order"):
        classifier.for_classes(["dog", "cat"])


def test_normalisation_that_only_an_image_processor_knows_is_warned_of() -> None:
    with pytest.warns(SlimWarning, match=r"mean=processor\.image_mean"):
        wrap(Own(2, lambda z: Output(z, None), config()))


def test_names_that_transformers_made_up_are_none() -> None:
    module = Own(2, lambda z: Output(z, None), config(id2label={0: "LABEL_0", 1: "LABEL_1"}))
    assert wrap(module, mean=[0.5] * 3, std=[0.5] * 3).class_names == ("0", "1")


def test_multi_label_network_of_transformers_is_refused() -> None:
    module = Own(2, lambda z: Output(z, None), config(problem_type="multi_label_classification"))
    with pytest.raises(ModelError, match="must choose one class per image"):
        wrap(module, mean=[0.5] * 3, std=[0.5] * 3)


def test_a_config_that_gives_two_classes_one_name_tells_them_apart() -> None:
    config = SimpleNamespace(id2label={0: "crane", 1: "dog", 2: "crane"})
    named = wrap(Own(3, lambda scores: scores, config), image_size=16, mean=[0.5] * 3, std=[0.5] * 3)
    assert named.class_names == ("crane (0)", "dog", "crane (2)")
