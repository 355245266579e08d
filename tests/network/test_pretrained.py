"""Models in the folders of transformers and timm, torchvision's by name, and image towers of open_clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from tests.network.conftest import NAMES, outputs
from timm.models import save_for_hf
from torch import nn

from slim.errors import ModelError, SlimError
from slim.network.build import build, wrap
from slim.network.classifier import Classifier
from slim.network.clip import wrap_clip
from slim.network.pretrained import load_pretrained

pytestmark = pytest.mark.usefixtures("small_and_quiet")


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    """A small vision transformer of transformers, saved with its image processor."""
    transformers = pytest.importorskip("transformers", reason="needs pip install 'slim-vision[transformers]'")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    names = {"id2label": dict(enumerate(NAMES)), "label2id": {name: k for k, name in enumerate(NAMES)}}
    config = transformers.ViTConfig(**sizes, **names, image_size=32, patch_size=8)
    torch.manual_seed(0)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


def test_folder_of_transformers_is_loaded_with_names_and_normalisation(vit: Path, tmp_path: Path) -> None:
    import transformers

    classifier = load_pretrained(vit)
    assert (classifier.class_names, classifier.image_size, classifier.mean) == (tuple(NAMES), 32, (0.5,) * 3)
    assert (classifier.layer, classifier.head) == ("model.vit.layers.1.layernorm_before", "model.classifier")
    own = transformers.AutoModelForImageClassification.from_pretrained(vit).eval()
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(classifier.module.eval()(images), own(images).logits)
    classifier.save(tmp_path / "saved")
    torch.testing.assert_close(outputs(Classifier.load(tmp_path / "saved")), outputs(classifier))


def test_folder_of_transformers_is_an_architecture_to_train(vit: Path) -> None:
    three, own = build(f"transformers:{vit}", ["a", "b", "c"]), load_pretrained(vit)
    assert (three.linear.weight == 0).all()
    assert (three.image_size, three.mean) == (32, (0.5,) * 3)
    body = three.module.state_dict()["model.vit.layers.0.layernorm_before.weight"]
    torch.testing.assert_close(body, own.module.state_dict()["model.vit.layers.0.layernorm_before.weight"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True}, r"must scale bytes to \[0, 1\]\. .* with an offset"),
        (None, r"must hold preprocessor_config\.json"),
    ],
)
def test_input_that_slim_cannot_make_is_refused(vit: Path, changed: dict[str, Any] | None, message: str) -> None:
    file = vit / "preprocessor_config.json"
    if changed is None:
        file.unlink()
    else:
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises(ModelError, match=message):
        load_pretrained(vit)


def test_backbone_without_a_head_is_refused(vit: Path) -> None:
    config = json.loads((vit / "config.json").read_text()) | {"architectures": ["ViTModel"]}
    (vit / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"must hold an image classifier\. Got ViTModel"):
        load_pretrained(vit)


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"must be a folder with config\.json"):
        load_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"architecture": "resnet10t", "num_classes": 2, "pretrained_cfg": {}}')
    with pytest.raises(ModelError, match="must be a model that timm can load"):
        load_pretrained(tmp_path)


def test_package_that_is_not_installed_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    (tmp_path / "config.json").write_text('{"model_type": "vit", "architectures": ["ViTForImageClassification"]}')
    with pytest.raises(SlimError, match=r"pip install 'slim-vision\[transformers\]'"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize(("options", "arch"), [({}, "resnet10t"), ({"global_pool": "max"}, "local-dir:")])
def test_folder_of_timm_is_loaded_and_saved_as_it_was(options: dict[str, str], arch: str, tmp_path: Path) -> None:
    module = timm.create_model("resnet10t", num_classes=2, **options)
    save_for_hf(module, tmp_path / "net", model_config={"label_names": NAMES})
    classifier = load_pretrained(tmp_path / "net")
    assert (classifier.class_names, classifier.head) == (tuple(NAMES), "fc")
    assert str(classifier.arch).startswith(arch)
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(classifier.module.eval()(images), module.eval()(images))
    classifier.save(tmp_path / "saved")
    torch.testing.assert_close(Classifier.load(tmp_path / "saved").module(images), module(images))


def test_classes_that_a_folder_of_timm_gives_one_name_are_told_apart(tmp_path: Path) -> None:
    module = timm.create_model("resnet10t", num_classes=3)
    save_for_hf(module, tmp_path / "net", model_config={"label_names": ["crane", "dog", "crane"]})
    assert load_pretrained(tmp_path / "net").class_names == ("crane (0)", "dog", "crane (2)")


def test_wrapped_network_of_timm_keeps_its_normalisation() -> None:
    module = timm.create_model("vit_tiny_patch16_224", num_classes=2, img_size=32)
    assert wrap(module, image_size=32).mean == (0.5, 0.5, 0.5)


def test_networks_of_torchvision_are_built_and_saved_by_name(tmp_path: Path) -> None:
    classifier = build("torchvision:mobilenet_v3_small", NAMES, weights=None, image_size=64)
    assert (classifier.head, classifier.n_classes, classifier.mean[0]) == ("classifier.3", 2, 0.485)
    classifier.save(tmp_path)
    torch.testing.assert_close(outputs(Classifier.load(tmp_path)), outputs(classifier))
    with pytest.raises(ModelError, match=r"torchvision knows\. Got 'resnet51'\. Close ones: resnet50"):
        build("torchvision:resnet51", NAMES, weights=None)


@pytest.fixture
def clip() -> Any:
    """A small CLIP with random weights."""
    open_clip = pytest.importorskip("open_clip", reason="needs pip install 'slim-vision[open-clip]'")
    vision = {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16}
    text = {"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1}
    model = open_clip.CLIP(12, vision, text).eval()
    model.visual.image_mean, model.visual.image_std = (0.4,) * 3, (0.3,) * 3
    return model


def test_zero_shot_head_gives_the_logits_of_clip(clip: Any) -> None:
    tokens = torch.randint(1, 20, (2, 8))
    classifier = wrap_clip(clip, clip.encode_text(tokens), NAMES)
    assert (classifier.layer, classifier.head) == ("visual.transformer.resblocks.1.ln_1", "head")
    assert (classifier.image_size, classifier.mean, classifier.class_names) == (32, (0.4,) * 3, tuple(NAMES))
    images = torch.rand(3, 3, 32, 32)
    embedded, texts, scale = clip(images, tokens)
    torch.testing.assert_close(classifier.module(images), scale * embedded @ texts.T)
    with pytest.raises(ModelError, match="Got 2 outputs for 3 classes"):
        wrap_clip(clip, clip.encode_text(tokens), ["a", "b", "c"])


def test_linear_head_takes_embeddings_as_they_are_if_told(clip: Any) -> None:
    head, images = nn.Linear(12, 2), torch.rand(3, 3, 32, 32)
    classifier = wrap_clip(clip, head, NAMES, normalized=False)
    torch.testing.assert_close(classifier.module(images), head(clip.encode_image(images)))


def test_network_without_an_image_tower_is_refused() -> None:
    with pytest.raises(ModelError, match=r"one of open_clip, with an image tower\. Got Linear"):
        wrap_clip(nn.Linear(2, 2), torch.zeros(2, 2), NAMES)
