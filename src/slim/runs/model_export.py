"""Exports the retrained model of a run, with its model card, to files that load without SLIM."""

from __future__ import annotations

from pathlib import Path

from slim.arguments import checked
from slim.errors import ArtifactError
from slim.files import write_text
from slim.network.choices import ModelFormat
from slim.network.export import Exported, export_classifier
from slim.runs.fit import Result
from slim.runs.model_card import model_card
from slim.runs.run import Run, open_run


@checked
def export_model(result: str | Path | Run | Result, target: str | Path, to: ModelFormat = "timm") -> Exported:
    """Write the retrained model and its model card into a folder, to be loaded without SLIM.

    Parameters
    ----------
    result
        A finished run: its folder, or `slim.open_run` of it; or what `slim.fit` returned.
    target
        The folder to write.
    to
        "timm" (``model.safetensors``, ``config.json``), "torchvision" or "state-dict" (``model.safetensors``),
        "transformers" (as ``save_pretrained`` writes it), or "onnx" (``model.onnx``, which normalises by itself).

    Returns
    -------
    Exported
        Its ``code`` loads the model and classifies a photo; it is in the card too, ``README.md``.

    Raises
    ------
    ArtifactError
        The run is not finished.
    ModelError
        That library does not build such a network, or the model does not give the same logits when it is read back.
    SlimError
        A package is not installed.

    Notes
    -----
    What was written is read back without SLIM, and its logits are compared on random images.

    Examples
    --------
    ``slim.export_model("runs/birds", "debiased", to="torchvision")``
    """
    if isinstance(result, Result):
        retrained, metrics = result.retrained, result.report.metrics
    else:
        run = result if isinstance(result, Run) else open_run(result)
        if run.state("report") != "done":
            raise ArtifactError(
                f"{run.folder.path} must be a finished run. Got one whose report is {run.state('report')}. "
                f"Run: slim run {run.folder.path}"
            )
        retrained, metrics = run.load("retrain"), run.load("report").metrics
    folder = Path(target)
    exported = export_classifier(retrained.model, folder, to)
    card = model_card(folder.absolute().name, retrained.model, exported, metrics, retrained.images)
    write_text(folder / "README.md", card)
    return exported
