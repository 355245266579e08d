"""The variations of ImageNet-9."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.data.benchmarks import layouts

from slim.errors import DataError, ModelError
from slim.network.classifier import Classifier
from slim.stages.evaluate.backgrounds import evaluate_backgrounds

pytestmark = pytest.mark.usefixtures("small_and_quiet")


def test_archive_of_the_challenge_alone_is_enough(
    tmp_path: Path, small_classifier: Callable[..., Classifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIM_CACHE", str(tmp_path / "cache"))
    tree = layouts.imagenet9(tmp_path / "tree")
    layouts.packed(tree, tmp_path / "archives/backgrounds_challenge_data.tar.gz", "bg_challenge")
    classifier = small_classifier(3)
    classifier = Classifier(**{**vars(classifier), "class_names": ("dog", "bird", "wheeled vehicle")})
    found = evaluate_backgrounds(classifier, tmp_path / "archives")
    assert found == evaluate_backgrounds(classifier, tree)
    assert len({found.original, found.mixed_same, found.mixed_rand, found.only_fg}) == 1  # the miniature's are the same


def test_missing_variation_and_other_classes_are_named(
    tmp_path: Path, small_classifier: Callable[..., Classifier]
) -> None:
    root = layouts.imagenet9(tmp_path / "copy", variations=("original", "mixed_same", "only_fg"))
    with pytest.raises(DataError, match="folders of classes, such as 00_dog, in .*mixed_rand"):
        evaluate_backgrounds(small_classifier(3), root)
    with pytest.raises(DataError, match="must have bg_challenge.* Got none in .*nowhere"):
        evaluate_backgrounds(small_classifier(3), tmp_path / "nowhere")
    with pytest.raises(ModelError):
        evaluate_backgrounds(small_classifier(2), layouts.imagenet9(tmp_path / "whole"))
