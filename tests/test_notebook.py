"""What records look like in a notebook: tables and pictures, with every text escaped."""

from __future__ import annotations

from pathlib import Path

import pytest

import slim
from slim.notebook import in_notebook
from slim.stages import STAGES


@pytest.mark.usefixtures("small_and_quiet")
def test_every_record_has_html_and_escapes_names(finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = slim.open_run(finished_run)
    records = {verb: run.load(verb) for verb in STAGES}
    records["attend"] = records["attend"].of(run.data)
    html = {verb: record._repr_html_() for verb, record in records.items()}
    assert [verb for verb, text in html.items() if not text.startswith("<p>")] == [
        "train",
        "embed",
        "locate",
        "retrain",
    ]
    assert html["attend"].count("data:image/jpeg;base64,") == 1
    assert "<th>worst_group_accuracy</th>" in html["evaluate"]
    assert "place=0" in run.data._repr_html_()
    monkeypatch.setattr(slim.ObjectMaps, "__repr__", lambda _: "<script>")
    assert records["locate"]._repr_html_() == "<pre>&lt;script&gt;</pre>"


def test_shells_derived_from_ipykernels_are_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Colab's is."""
    kernel = type("ZMQInteractiveShell", (), {})
    for shell, expected in ((type("Shell", (kernel,), {})(), True), (kernel(), True), (object(), False), (None, False)):
        monkeypatch.setattr("IPython.get_ipython", lambda shell=shell: shell)
        assert in_notebook() is expected


def test_queries_are_a_picture(finished_run: Path) -> None:
    run = slim.open_run(finished_run)
    queries = slim.select_queries(run.data, run.load("attend"), run.load("embed"), slim.AnnotateSettings(budget=3))
    assert "data:image/jpeg;base64," in queries._repr_html_()
