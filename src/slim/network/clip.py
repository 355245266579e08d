"""Classifiers of open_clip's image towers: zero-shot, or with a linear head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from slim.arguments import checked
from slim.errors import ModelError
from slim.network.build import wrap
from slim.network.classifier import Classifier
from slim.network.devices import device_of


class ImageTower(nn.Module):
    """An image tower with a linear head on its embedding.

    Parameters
    ----------
    visual
        Images to embeddings (b, d).
    head
        Embeddings to logits.
    normalized
        Whether the head takes embeddings of length 1.

    Examples
    --------
    >>> ImageTower(nn.Flatten(), nn.Linear(12, 2), normalized=True)(torch.ones(1, 3, 2, 2)).shape
    torch.Size([1, 2])
    """

    def __init__(self, visual: nn.Module, head: nn.Linear, *, normalized: bool) -> None:
        super().__init__()
        self.visual, self.head, self.normalized = visual, head, normalized

    def forward(self, images: Tensor) -> Tensor:
        """(b, n_classes) logits."""
        output: Any = self.visual(images)
        embedding = output if isinstance(output, Tensor) else output[0]  # the tokens may come along
        logits: Tensor = self.head(nn.functional.normalize(embedding, dim=-1) if self.normalized else embedding)
        return logits


@checked
def wrap_clip(
    model: nn.Module,
    head: Tensor | nn.Linear,
    class_names: Sequence[str],
    *,
    normalized: bool = True,
    layer: str | None = None,
) -> Classifier:
    """Make a classifier of the image tower of an open_clip model.

    Parameters
    ----------
    model
        From ``open_clip.create_model``. Size, mean and standard deviation of its input are taken from it.
    head
        For zero-shot classification, the (n_classes, d) embeddings of a text for each class, as ``model.encode_text``
        returns them, of any length; or a linear layer that was fitted to image embeddings.
    class_names
        One per text or output, in their order.
    normalized
        Whether a linear layer takes embeddings of length 1; zero-shot classification always does.
    layer
        See `slim.wrap`.

    Returns
    -------
    Classifier
        Its last layer is `head`, which SLIM can retrain: texts are its first weights, times the model's scale.

    Raises
    ------
    ModelError
        The model has no image tower, or the head does not fit its embeddings or `class_names`.

    References
    ----------
    A. Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021.

    Examples
    --------
    Zero-shot, with ``model = open_clip.create_model("ViT-B-32", pretrained="weights.bin")`` and
    ``tokenizer = open_clip.get_tokenizer("ViT-B-32")``:
    ``texts = model.encode_text(tokenizer(["a photo of a landbird", "a photo of a waterbird"]))``,
    ``reference = slim.wrap_clip(model, texts, ["landbird", "waterbird"])``.
    """
    visual: Any = getattr(model, "visual", None)
    if not isinstance(visual, nn.Module) or not hasattr(visual, "image_size"):
        raise ModelError(
            f"The model must be one of open_clip, with an image tower. Got {type(model).__name__}, which has none. "
            "Pass other networks to slim.wrap."
        )
    linear = head if isinstance(head, nn.Linear) else _zero_shot(model, head)
    tower = ImageTower(visual, linear, normalized=normalized or not isinstance(head, nn.Linear))
    size: Any = visual.image_size
    return wrap(
        tower,
        layer=layer,
        image_size=int(size if isinstance(size, int) else size[0]),
        mean=_mean_or_std(visual, "mean"),
        std=_mean_or_std(visual, "std"),
        class_names=class_names,
    )


def _mean_or_std(visual: Any, name: str) -> Sequence[float]:
    """The mean or standard deviation of the tower's input."""
    values: Sequence[float] = getattr(visual, f"image_{name}", None) or visual.preprocess_cfg[name]
    return values


def _zero_shot(model: Any, texts: Tensor) -> nn.Linear:
    """The linear layer whose logits are the scaled cosines with the embeddings of texts."""
    if texts.ndim != 2 or not texts.isfinite().all():
        raise ModelError(
            f"Texts must be embeddings (classes, d), as model.encode_text returns them. Got {tuple(texts.shape)}. "
            "Tokenize one text per class, and encode them."
        )
    linear = nn.Linear(texts.shape[1], len(texts), device=device_of(model))
    with torch.no_grad():
        linear.weight.copy_(nn.functional.normalize(texts.float(), dim=1) * model.logit_scale.exp())
        linear.bias.zero_()
    return linear
