"""The rows of a comparison: how each gets its model, and what it was told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slim.annotation import (
    AnnotateSettings,
    BrowserAnnotator,
    Queries,
    TerminalAnnotator,
    ask,
    choose_annotator,
    select_queries,
)
from slim.attention import Attention
from slim.baselines import (
    afr_head,
    balanced_subset,
    dfr_head,
    feature_cells,
    group_dro_head,
    jtt_head,
    random_subset,
)
from slim.comparison import spuco
from slim.comparison.networks import group_dro_network, jtt_network
from slim.curation import curate
from slim.errors import SettingsError
from slim.evaluation import Groups
from slim.factors import Source
from slim.last_layer import Head, HeldOut, fit_head
from slim.metrics import accuracy_by_group
from slim.models import Classifier
from slim.pipeline import Pipeline
from slim.propagation import CORE, UNASKED, Scores, answers_array, propagate
from slim.settings import RunSettings, read_recipe
from slim.space import Space, embed
from slim.work import fit_subset_head

Indices = NDArray[np.int64]
GroupLabels = Literal["none", "train", "val", "train + val"]

_FEATURE_CLUSTERS = 2


@dataclass(frozen=True, eq=False)
class Chosen:
    """A subset of the pool, and what its last layer is tuned on.

    Attributes
    ----------
    index
        (size,) positions in the pool, an image as often as it is taken.
    cells
        (n,) cells of the whole pool.
    tune_among
        (n,) the images that the last layer may be tuned on.
    judgements
        How many answers were used.
    balanced
        What the cells are clusters of; val's images join the nearest where the last layer is fitted to them as well.
    fits_val
        Whether it is.
    shortcut
        False = no shortcut was found, and the reference model stays.
    """

    index: Indices
    cells: Indices
    tune_among: NDArray[np.bool_]
    judgements: int = 0
    balanced: Source = "features"
    fits_val: bool = False
    shortcut: bool = True


@dataclass(frozen=True)
class Bench:
    """One seed's reference model, attention and space, which all rows share.

    Parameters
    ----------
    pipeline
        A run whose stages up to embed are done.
    """

    pipeline: Pipeline

    @cached_property
    def attention(self) -> Attention:
        """Of the pool."""
        return self.pipeline.attention(self.pipeline.settings.pool)

    @cached_property
    def space(self) -> Space:
        """Of the pool."""
        return Space.load(self.pipeline.folder("embed"))

    @property
    def y(self) -> Indices:
        """The pool's labels."""
        return self.pipeline.pool.y

    @property
    def size(self) -> int:
        """Of every subset."""
        return self.pipeline.settings.curate.size

    @property
    def seed(self) -> int:
        """Of everything drawn."""
        return self.pipeline.settings.seed

    def groups(self, split: str) -> Indices:
        """A split's groups.

        Raises
        ------
        SettingsError
            There is no spurious attribute.
        """
        groups = getattr(self.pipeline.data, split).groups
        if groups is None:
            raise SettingsError(
                "This row uses group labels. Got data without a spurious attribute. Name it (--attribute), or choose "
                "rows without group labels (--rows)."
            )
        return np.asarray(groups)

    def train(self) -> HeldOut:
        """The train split's features with its groups."""
        return self._of("train")

    def val(self) -> HeldOut:
        """The val split's features with its groups."""
        return self._of("val")

    def _of(self, split: str) -> HeldOut:
        features = np.asarray(self.pipeline.attention(split).features)
        return HeldOut(features, getattr(self.pipeline.data, split).y, self.groups(split))


def _plain(bench: Bench, index: Indices, cells: Indices | None = None) -> Chosen:
    n = len(bench.y)
    return Chosen(index, np.zeros(n, np.int64) if cells is None else cells, np.ones(n, bool))


def _random(bench: Bench) -> Chosen:
    return _plain(bench, random_subset(bench.y, bench.size, bench.seed))


def _class_balanced(bench: Bench) -> Chosen:
    return _plain(bench, balanced_subset(bench.y, bench.size, bench.seed))


def _cluster_balanced(bench: Bench) -> Chosen:
    cells = feature_cells(bench.attention.features, bench.y, _FEATURE_CLUSTERS, bench.seed)
    # The class is part of the cells; what val's images join is the cluster alone.
    return _plain(bench, balanced_subset(cells, bench.size, bench.seed), cells % _FEATURE_CLUSTERS)


def _group_balanced(bench: Bench) -> Chosen:
    groups = bench.groups(bench.pipeline.settings.pool)
    return _plain(bench, balanced_subset(groups, bench.size, bench.seed), groups)


def _slim(bench: Bench, **changed: Mapping[str, Any]) -> Chosen:
    """With the run's settings, some of some stages changed."""
    return _curated(bench, bench.pipeline.settings.updated(changed), bench.attention, bench.space)


def _published(bench: Bench) -> Chosen:
    return _curated(bench, *published_parts(bench))


def published_parts(bench: Bench) -> tuple[RunSettings, Attention, Space]:
    """The published recipe's settings, features (pooled by sum) and space."""
    own = bench.pipeline.settings
    settings = RunSettings(train=own.train, pool=own.pool, seed=own.seed).updated(read_recipe("published"))
    asked = replace(own.annotate, select=settings.annotate.select, candidates=settings.annotate.candidates)
    settings = replace(settings, annotate=asked, curate=replace(settings.curate, size=own.curate.size))
    attention = summed(bench.attention) if own.attend.pooling == "mean" else bench.attention
    space = embed(attention.core, attention.environment, attention.contrast, settings.embed, seed=own.seed)
    return settings, attention, space


def summed(attention: Attention) -> Attention:
    """Attention whose features are pooled by sum, from one whose features are pooled by mean.

    Examples
    --------
    >>> maps = np.array([[[1.0, 0.5]]])
    >>> found = summed(Attention(maps, np.array([[2.0]]), np.array([[4.0]]), maps[0], maps[0], maps[0]))
    >>> found.core.tolist(), found.environment.tolist()
    ([[3.0]], [[2.0]])
    """
    mass = np.asarray(attention.maps).sum((1, 2))[:, None]
    area = attention.maps.shape[1] * attention.maps.shape[2]
    return replace(
        attention,
        core=np.asarray(attention.core) * mass,
        environment=np.asarray(attention.environment) * (area - mass),
    )


def _curated(bench: Bench, settings: RunSettings, attention: Attention, space: Space) -> Chosen:
    """Ask, spread and curate, as the stages do."""
    scores, answers = judged_scores(bench, settings, attention, space)
    return _of_scores(bench, settings, attention, space, scores.values, int((answers != UNASKED).sum()))


def judged_scores(
    bench: Bench, settings: RunSettings, attention: Attention, space: Space
) -> tuple[Scores, NDArray[np.int8]]:
    """Attention scores of the pool, and the answers (n,) that they come from."""
    p, asked = bench.pipeline, settings.annotate
    queries = select_queries(
        space.of(asked.select),
        p.pool,
        attention.maps,
        budget=asked.budget,
        select=asked.select,
        candidates=asked.candidates,
        seed=bench.seed,
    )
    answers, spread = _answered(bench, queries, asked), settings.propagate
    return propagate(space.of(spread.method), bench.y, answers, spread, class_names=p.pool.class_names), answers


def true_answers(bench: Bench) -> NDArray[np.int8]:
    """(n,) what the oracle says of every image of the pool, without noise."""
    p = bench.pipeline
    everything = Queries(np.arange(len(p.pool)), p.pool.y, p.pool, bench.attention.maps, p.pool.class_names)
    return _answered(bench, everything, replace(p.settings.annotate, noise=0.0))


def _answered(bench: Bench, queries: Queries, settings: AnnotateSettings) -> NDArray[np.int8]:
    """(n,) the answers to some queries, for the whole pool."""
    p = bench.pipeline
    oracle = choose_annotator(settings, p.pool, p.run.folder, bench.seed)
    if isinstance(oracle, BrowserAnnotator | TerminalAnnotator):
        raise SettingsError(
            "A comparison takes its answers from masks, boxes or a file, since every seed asks anew. Got data without. "
            "Add --annotate.recorded FILE.csv, or choose rows without judgements (--rows)."
        )
    judged = ask(queries, oracle).frame
    return answers_array(len(p.pool), judged["index"].to_numpy(), judged["answer"].tolist())


def _all_judged(bench: Bench) -> Chosen:
    """SLIM's curation by the true answer to every image: what any number of answers can come to."""
    n = len(bench.y)
    # Above all that are not core; equals stay in no order.
    scores = (true_answers(bench) == CORE) / 2 + np.random.default_rng((bench.seed, 6)).random(n) / 2
    return _of_scores(bench, bench.pipeline.settings, bench.attention, bench.space, scores, n)


def _unjudged(bench: Bench) -> Chosen:
    """SLIM's curation with scores that say nothing."""
    scores = np.random.default_rng((bench.seed, 4)).random(len(bench.y))
    return _of_scores(bench, bench.pipeline.settings, bench.attention, bench.space, scores, 0)


def _of_scores(
    bench: Bench,
    settings: RunSettings,
    attention: Attention,
    space: Space,
    scores: NDArray[np.floating],
    judgements: int,
) -> Chosen:
    subset = curate(
        np.asarray(attention.core),
        np.asarray(attention.environment),
        (space.core, space.environment),
        scores,
        bench.y,
        settings.curate,
        features=np.asarray(attention.features),
        mistakes=bench.pipeline.mistakes(),
        class_names=bench.pipeline.pool.class_names,
        seed=bench.seed,
    )
    fits_val = settings.fits_val
    cells = subset.cell(with_val=fits_val)
    return Chosen(subset.index, cells, subset.kept, judgements, subset.balanced, fits_val, subset.shortcut)


def _with_val(chosen: Chosen) -> Chosen:
    return replace(chosen, fits_val=True)


def _val_alone(bench: Bench) -> Head:
    """All of val by its class labels, halved only because one half is the subset that the other joins."""
    p = bench.pipeline
    features, y = np.asarray(p.attention("val").features), p.data.val.y
    order = np.random.default_rng((bench.seed, 5)).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    first, second = order[::2], order[1::2]
    one = np.zeros(len(second), np.int64)
    joined, n_classes = HeldOut(features[second], y[second], one), p.pool.n_classes
    cells = np.zeros(len(first), np.int64)
    return fit_head(features[first], y[first], cells, val=joined, n_classes=n_classes, seed=bench.seed)


def fit_chosen(bench: Bench, chosen: Chosen) -> Head | None:
    """The last layer fitted to a chosen subset; None where the reference model stays."""
    if not chosen.shortcut:
        return None
    return fit_subset_head(
        bench.pipeline,
        chosen.index,
        chosen.cells,
        chosen.tune_among,
        balanced=chosen.balanced,
        fits_val=chosen.fits_val,
    )


def worst_group(bench: Bench, head: Head | None) -> float:
    """Test accuracy of the worst group with a last layer, on kept features; None is the reference's own."""
    p, seen, groups = bench.pipeline, bench.pipeline.attention("test"), Groups.from_table(bench.pipeline.data.test)
    predicted = np.asarray(seen.probabilities).argmax(1) if head is None else head.predict(np.asarray(seen.features))
    right = predicted == p.data.test.y
    return accuracy_by_group(right, groups.of, groups.names, groups.training_shares).worst_group_accuracy


def _dfr(bench: Bench) -> Head:
    val = bench.val()
    return dfr_head(val.features, val.y, val.cells, n_classes=bench.pipeline.pool.n_classes, seed=bench.seed)


def _afr(bench: Bench) -> Head:
    val, linear = bench.val(), bench.pipeline.classifier.linear
    weight = np.asarray(bench.pipeline.classifier.head_weight)
    bias = np.zeros(len(weight)) if linear.bias is None else linear.bias.detach().cpu().double().numpy()
    return afr_head(val.features, val.y, val.cells, Head(weight, bias, 0.0, None), seed=bench.seed)


def _group_dro(bench: Bench) -> Head:
    train, val = bench.train(), bench.val()
    return group_dro_head(train.features, train.y, train.cells, val, n_classes=bench.pipeline.pool.n_classes)


def _jtt(bench: Bench) -> Head:
    train = bench.pipeline.attention("train").features
    y, n_classes = bench.pipeline.data.train.y, bench.pipeline.pool.n_classes
    return jtt_head(np.asarray(train), y, bench.val(), n_classes=n_classes)


def _spuco_dfr(bench: Bench) -> Head:
    return spuco.dfr_head(bench.train().features, bench.val(), seed=bench.seed)


def _spuco_group_dro(bench: Bench) -> Head:
    return spuco.group_dro_head(bench.train(), bench.val(), n_classes=bench.pipeline.pool.n_classes, seed=bench.seed)


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes
    ----------
    title
        As the table calls it.
    group_labels
        Which splits' group labels it uses.
    trained_on
        Split of its images.
    subset
        How it chooses a subset of the pool, on which a last layer or the whole network is retrained.
    head
        How it fits a last layer by itself. A row with neither is the reference model.
    network
        How it trains the whole network by itself, into a folder: in mode "full", beside its last layer.
    package
        What must be installed for it, beside SLIM.
    """

    title: str
    group_labels: GroupLabels = "none"
    trained_on: Literal["train", "val"] = "train"
    subset: Callable[[Bench], Chosen] | None = None
    head: Callable[[Bench], Head] | None = None
    network: Callable[[Pipeline, Path], Classifier] | None = None
    package: str | None = None

    @property
    def installed(self) -> bool:
        """Whether its package is there."""
        return self.package is None or find_spec(self.package) is not None


ROWS = {
    "erm": Row("ERM, the reference model"),
    "random": Row("Random subset", subset=_random),
    "slim": Row("SLIM", subset=_slim),
    "slim-subset": Row("SLIM, subset alone", subset=lambda bench: _slim(bench, retrain={"use_val": False})),
    "random-val": Row("Random subset and val", subset=lambda bench: _with_val(_random(bench))),
    "group-balanced": Row("Group-balanced subset", "train", subset=_group_balanced),
    "published": Row("SLIM as published", subset=_published),
    "cluster-balanced": Row("Cluster-balanced subset", subset=_cluster_balanced),
    "cluster-balanced-val": Row(
        "Cluster-balanced subset and val", subset=lambda bench: _with_val(_cluster_balanced(bench))
    ),
    "class-balanced": Row("Class-balanced subset", subset=_class_balanced),
    "slim-unjudged": Row("SLIM without judgements", subset=_unjudged),
    "slim-all-judged": Row("SLIM, every image judged", subset=_all_judged),
    "slim-noise-10": Row("SLIM, 10 % wrong answers", subset=lambda bench: _slim(bench, annotate={"noise": 0.1})),
    "slim-noise-20": Row("SLIM, 20 % wrong answers", subset=lambda bench: _slim(bench, annotate={"noise": 0.2})),
    "val": Row("Val alone, class labels", trained_on="val", head=_val_alone),
    "dfr": Row("DFR on val", "val", "val", head=_dfr),
    "afr": Row("AFR on val", "val", "val", head=_afr),
    "group-dro": Row("GroupDRO", "train + val", head=_group_dro, network=group_dro_network),
    "jtt": Row("JTT", "val", head=_jtt, network=jtt_network),
    "spuco-dfr": Row("DFR on val, by spuco", "val", "val", head=_spuco_dfr, package="spuco"),
    "spuco-group-dro": Row("GroupDRO, by spuco", "train + val", head=_spuco_group_dro, package="spuco"),
}
"""Every row by its key, in the order in which they are computed: a useful table early."""

DEFAULT_ROWS = tuple(key for key, row in ROWS.items() if row.installed)
"""The rows that need no package that is not there."""
