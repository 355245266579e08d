"""Export of the retrained model: it loads without SLIM and gives the same logits, and its card says what it is."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from click.testing import Result
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from slim import export_groups, export_model, open_run
from slim.errors import ArtifactError, DataError, ModelError
from slim.network.build import build, wrap
from slim.network.classifier import Classifier
from slim.network.clip import wrap_clip
from slim.network.export import Exported, export_classifier
from slim.network.pretrained import load_pretrained

pytestmark = pytest.mark.usefixtures("small_and_quiet")

NAMES = ["cat", "dog"]
Run = Callable[[Exported], tuple[str, torch.Tensor]]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"


def with_random_head(classifier: Classifier) -> Classifier:
    nn.init.normal_(classifier.linear.weight, generator=torch.Generator().manual_seed(0))
    return classifier


def predicted(classifier: Classifier, photo: Path) -> tuple[str, torch.Tensor]:
    """Class and logits of a photo."""
    size = classifier.image_size
    pixels = np.array(Image.open(photo).convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
    with torch.no_grad():
        logits = classifier.module.eval()(classifier.normalize(torch.from_numpy(pixels).permute(2, 0, 1)[None]))[0]
    return classifier.class_names[int(logits.argmax())], logits


def test_export_removes_what_a_killed_one_has_left(tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "half").touch()
    export_classifier(build("resnet18", NAMES, weights=None, image_size=32), tmp_path / "out", "torchvision")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not (tmp_path / "out" / "half").exists()


@pytest.fixture
def run_without_slim(photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the code of a card where SLIM cannot be imported: what it prints, and the logits."""

    def run(exported: Exported) -> tuple[str, torch.Tensor]:
        names: dict[str, Any] = {}
        capsys.readouterr()
        with monkeypatch.context() as patched, torch.no_grad():
            patched.setitem(sys.modules, "slim", None)  # type: ignore[arg-type]
            patched.chdir(photo.parent)
            exec(exported.code, names)
            logits = names["logits"] if "logits" in names else names["model"](names["pixels"][None])
        return capsys.readouterr().out.strip(), torch.as_tensor(logits)[0]

    return run


@pytest.mark.parametrize(
    ("make", "to"),
    [
        (lambda: build("resnet10t", NAMES, weights=None, image_size=48), "timm"),
        (lambda: build("resnet18", NAMES, weights=None, image_size=48), "torchvision"),
        (lambda: wrap(torchvision.models.mobilenet_v3_small(num_classes=2), class_names=NAMES), "torchvision"),
    ],
    ids=["timm", "torchvision by timm's name", "torchvision by its tensors"],
)
def test_code_of_an_export_classifies_as_slim_does(
    make: Callable[[], Classifier], to: str, photo: Path, tmp_path: Path, run_without_slim: Run
) -> None:
    classifier = with_random_head(make())
    name, logits = run_without_slim(export_classifier(classifier, tmp_path / "out", to))
    assert name == predicted(classifier, photo)[0]
    torch.testing.assert_close(logits, predicted(classifier, photo)[1], atol=2e-4, rtol=1e-3)


def test_exported_files_may_be_read_by_all_who_may_read_a_new_file(tmp_path: Path) -> None:
    export_classifier(build("resnet10t", NAMES, weights=None, image_size=48), tmp_path / "out", "timm")
    (tmp_path / "new").touch()
    assert {file.stat().st_mode for file in (tmp_path / "out").iterdir()} == {(tmp_path / "new").stat().st_mode}


def test_onnx_classifies_as_torch_does(photo: Path, tmp_path: Path, run_without_slim: Run) -> None:
    onnx = pytest.importorskip("onnx", reason="needs pip install 'slim-vision[onnx]'")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    classifier = with_random_head(wrap(module, image_size=16, class_names=NAMES))
    exported = export_classifier(classifier, tmp_path / "out", "onnx")
    name, logits = run_without_slim(exported)
    assert name == predicted(classifier, photo)[0]
    torch.testing.assert_close(logits, predicted(classifier, photo)[1], atol=2e-4, rtol=1e-3)
    known = {item.key: item.value for item in onnx.load(tmp_path / "out" / "model.onnx").metadata_props}
    assert known["classes"].split("\n") == NAMES
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["model.onnx"]


def test_timm_export_is_a_reference_model_again(tmp_path: Path) -> None:
    classifier = with_random_head(build("resnet10t", NAMES, weights=None, image_size=48))
    export_classifier(classifier, tmp_path / "out", "timm")
    again = load_pretrained(tmp_path / "out")
    assert (again.arch, again.image_size, again.class_names) == ("resnet10t", 48, tuple(NAMES))
    images = torch.rand(1, 3, 48, 48)
    torch.testing.assert_close(again.module.eval()(images), classifier.module.eval()(images))


@pytest.mark.parametrize("to", ["timm", "torchvision", "transformers"])
def test_network_of_another_library_is_refused_and_leaves_nothing(
    small_classifier: Callable[..., Classifier], to: str, tmp_path: Path
) -> None:
    if to == "transformers":
        pytest.importorskip("transformers")
    with pytest.raises(ModelError, match=rf"must be one that {to} builds\. Got your own \(Sequential\)"):
        export_classifier(small_classifier(), tmp_path / "out", to)
    assert list(tmp_path.iterdir()) == []


def test_timm_network_with_another_head_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    classifier = build("resnet10t", NAMES, weights=None, image_size=48)
    classifier.module.global_pool = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())  # which its name does not tell
    with pytest.raises(ModelError, match="must give the same logits"):
        export_classifier(with_random_head(classifier), tmp_path / "out", "timm")
    assert list(tmp_path.iterdir()) == []


def test_command_writes_the_model_with_a_card(
    finished_run: Path, slim_command: Callable[..., Result], tmp_path: Path
) -> None:
    result = slim_command("export", finished_run, tmp_path / "debiased", "--to", "timm")
    assert result.exit_code == 0, result.stderr
    card = (tmp_path / "debiased" / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)\n```", card, re.DOTALL)
    assert code is not None
    assert code[1] in result.stdout
    metrics = open_run(finished_run).load("report").metrics
    for group in metrics["retrained"]["groups"]:
        assert f"| {group['name']} | {group['n']} |" in card
    assert f"| SLIM | {100 * metrics['retrained']['worst_group_accuracy']:.1f}" in card
    assert metrics["retrained"]["supervision"] in card
    assert "| 0 | 0 |\n| 1 | 1 |" in card
    assert "32 x 32" in card


def test_run_that_is_not_finished_has_no_model_to_export(finished_run: Path, tmp_path: Path) -> None:
    (finished_run / "10-report" / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="must be a finished run. Got one whose report is missing"):
        export_model(finished_run, tmp_path / "out")


def test_groups_go_to_wilds_and_spuco(finished_run: Path, slim_command: Callable[..., Result], tmp_path: Path) -> None:
    for to in ("wilds", "spuco"):
        assert slim_command("export", finished_run, tmp_path / to, "--to", to).exit_code == 0
    table, run = pd.read_csv(tmp_path / "wilds"), open_run(finished_run)
    assert table["split"].value_counts().tolist() == [48, 16, 16]
    assert table["img_filename"].tolist()[:2] == ["images/train000.png", "images/train001.png"]
    assert table["place"].tolist()[:48] == run.load("curate").environment_cluster.tolist()
    partition = json.loads((tmp_path / "spuco").read_text())
    assert sorted(i for rows in partition.values() for i in rows) == list(range(48))
    for key, rows in partition.items():
        assert {f"{y},{place}" for y, place in table.loc[rows, ["y", "place"]].values.tolist()} == {key}


def test_groups_do_not_take_the_place_of_the_table_of_the_images(finished_run: Path) -> None:
    table = Path(open_run(finished_run).data.source["source"]) / "metadata.csv"
    before = table.read_bytes()
    with pytest.raises(DataError, match="must not overwrite the table"):
        export_groups(finished_run, table)
    assert table.read_bytes() == before


class Squeezed(nn.Module):
    """A network of a single logit, as a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images).squeeze(1)


def test_network_that_came_with_a_single_logit_is_made_with_two_outputs_to_load_what_was_exported(
    tmp_path: Path,
) -> None:
    classifier = wrap(Squeezed(), image_size=16, class_names=NAMES)
    exported = export_classifier(classifier, tmp_path / "out", "state-dict")
    assert "model = Squeezed(...)  # as you made it, with 2 outputs\n" in exported.code
    with_two = Squeezed()
    with_two.net[-1] = nn.Linear(4, 2)
    with_two.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))


def test_network_that_onnx_cannot_express_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    classifier = wrap(Squeezed(), image_size=16, class_names=NAMES)  # whose two outputs squeeze leaves, but not ONNX's
    with pytest.raises(ModelError, match=r"torch\.onnx can export\. Got: .*--to state-dict"):
        export_classifier(classifier, tmp_path / "out", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_tensors_of_an_image_tower_load_into_the_tower_and_a_linear_layer(
    photo: Path, tmp_path: Path, run_without_slim: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_clip = pytest.importorskip("open_clip", reason="needs pip install 'slim-vision[open-clip]'")
    vision = {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16}
    text = {"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1}
    model = open_clip.CLIP(12, vision, text).eval()
    model.visual.image_mean, model.visual.image_std = (0.4,) * 3, (0.3,) * 3
    classifier = wrap_clip(model, torch.rand(2, 12), NAMES)
    exported = export_classifier(classifier, tmp_path / "out", "state-dict")
    code = exported.code.replace("open_clip.create_model(...)", "open_clip.CLIP(12, vision, text)")
    code = f"import open_clip\nvision, text = {vision}, {text}\n{code}"
    called = code.splitlines()[-1].removeprefix(f"print({NAMES}[").removesuffix(".argmax()])")
    name, logits = run_without_slim(Exported("pytorch", f"{code}\nlogits = {called}"))
    assert name == predicted(classifier, photo)[0]
    torch.testing.assert_close(logits, predicted(classifier, photo)[1], atol=2e-4, rtol=1e-3)
