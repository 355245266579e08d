"""The rows of a comparison: how each obtains its model, and which labels it uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from slim.comparison import heads, recomposed, subsets
from slim.comparison.bench import Bench
from slim.comparison.networks import group_dro_network, jtt_network
from slim.comparison.recomposed import MappedObjects
from slim.comparison.subsets import SelectedSubset
from slim.network.classifier import Classifier
from slim.stages.retrain.last_layer import Head

Material = SelectedSubset | MappedObjects
GroupLabels = Literal["none", "train", "val", "train + val"]


@dataclass(frozen=True)
class Row:
    """One row of a comparison.

    Attributes
    ----------
    title
        Name in the tables.
    group_labels
        Splits whose group labels the row uses.
    trained_on
        Split that the row trains on, where it has no subset.
    val
        What the last layer of the row does with val: "needs" it, "uses" it if there is one, or "ignores" it. A whole
        network is trained once, with the first val.
    every_class
        Whether val must have two images of each class: the last layer is fitted to one half of it and tuned on another.
    material
        Makes what the last layer or the whole network is retrained on: a subset of the pool, or maps of the objects by
        which all of train is recomposed.
    head
        Fits a last layer to something else. A row with neither is the reference model.
    network
        Trains the whole network on something else, into a folder; the row then takes part in mode "full" too.
    package
        Optional package that the row needs.
    """

    title: str
    group_labels: GroupLabels = "none"
    trained_on: Literal["train", "val"] = "train"
    val: Literal["needs", "uses", "ignores"] = "needs"
    every_class: bool = False
    material: Callable[[Bench], Material] | None = None
    head: Callable[[Bench], Head] | None = None
    network: Callable[[Bench, Path], Classifier] | None = None
    package: str | None = None

    @property
    def installed(self) -> bool:
        """Whether the package is installed."""
        return self.package is None or find_spec(self.package) is not None


ROWS = {
    "erm": Row("ERM, the reference model", val="ignores"),
    "random": Row("Random subset", material=subsets.random_images, val="ignores"),
    "slim": Row("SLIM", material=recomposed.slim, val="uses"),
    "subset": Row("Curated subset and val", material=subsets.slim_subset),
    "subset-alone": Row(
        "Curated subset", material=lambda bench: subsets.slim_subset(bench, retrain={"use_val": False}), val="uses"
    ),
    "random-val": Row("Random subset and val", material=lambda bench: subsets.random_images(bench).with_val()),
    "group-balanced": Row("Group-balanced subset", "train", material=subsets.group_balanced, val="ignores"),
    "published": Row("SLIM as published", material=subsets.published, val="ignores"),
    "cluster-balanced": Row("Cluster-balanced subset", material=subsets.cluster_balanced, val="ignores"),
    "cluster-balanced-val": Row(
        "Cluster-balanced subset and val", material=lambda bench: subsets.cluster_balanced(bench).with_val()
    ),
    "class-balanced": Row("Class-balanced subset", material=subsets.class_balanced, val="ignores"),
    "subset-unjudged": Row("Curated subset and val, no judgements", material=subsets.unjudged),
    "subset-all-judged": Row("Curated subset and val, every image judged", material=subsets.all_judged),
    "subset-noise-10": Row(
        "Curated subset and val, 10 % wrong answers",
        material=lambda bench: subsets.slim_subset(bench, annotate={"noise": 0.1}),
    ),
    "subset-noise-20": Row(
        "Curated subset and val, 20 % wrong answers",
        material=lambda bench: subsets.slim_subset(bench, annotate={"noise": 0.2}),
    ),
    "val": Row("Val alone, class labels", trained_on="val", every_class=True, head=heads.val_alone),
    "recomposed": Row("Recomposed, clicks, in any case", material=recomposed.from_answers, val="uses"),
    "recomposed-yes-no": Row(
        "Recomposed, yes or no", material=lambda bench: recomposed.from_answers(bench, clicks=False), val="uses"
    ),
    "recomposed-noisy": Row(
        "Recomposed, 10 % wrong answers, clicks off by up to 1/8",
        material=lambda bench: recomposed.from_answers(bench, noise=0.1, click_noise=0.125),
        val="uses",
    ),
    "recomposed-shuffled": Row("Recomposed, shuffled answers", material=recomposed.from_shuffled_answers, val="uses"),
    "recomposed-unanswered": Row("Recomposed, no answers", material=recomposed.unanswered, val="uses"),
    "recomposed-centre": Row("Recomposed, centre", material=recomposed.from_centre, val="uses"),
    "recomposed-grad-cam": Row(
        "Recomposed, attention of the reference", material=recomposed.from_attention, val="uses"
    ),
    "recomposed-crop": Row("Recomposed, attention crop", material=recomposed.from_attention_crop, val="uses"),
    "recomposed-component": Row(
        "Recomposed, first principal component of places", material=recomposed.from_component, val="uses"
    ),
    "recomposed-same-cluster": Row(
        "Recomposed, clicks, background of the same cluster", material=recomposed.same_cluster, val="ignores"
    ),
    "recomposed-masks": Row("Recomposed, true masks", material=recomposed.from_masks, val="uses"),
    "dfr": Row("DFR on val", "val", "val", every_class=True, head=heads.dfr),
    "afr": Row("AFR on val", "val", "val", head=heads.afr),
    "group-dro": Row("GroupDRO", "train + val", head=heads.group_dro, network=group_dro_network),
    "jtt": Row("JTT", "val", head=heads.jtt, network=jtt_network),
    "spuco-dfr": Row("DFR on val, by spuco", "val", "val", every_class=True, head=heads.spuco_dfr, package="spuco"),
    "spuco-group-dro": Row("GroupDRO, by spuco", "train + val", head=heads.spuco_group_dro, package="spuco"),
}
"""Every row by its key, in the order of computation: the most useful rows come first."""

_VARIED = ("subset-all-judged", "subset-noise-10", "subset-noise-20")
DEFAULT_ROWS = tuple(
    key
    for key, row in ROWS.items()
    if row.installed and key not in _VARIED and (key == "recomposed-unanswered" or not key.startswith("recomposed"))
)
"""The rows whose packages are installed, except for those that vary what SLIM is given."""
