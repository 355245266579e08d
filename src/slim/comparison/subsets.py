"""Subsets of the pool: SLIM's with its variations, and the baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slim.arrays import Floats, Ints
from slim.comparison.baselines import balanced_subset, feature_cells
from slim.comparison.bench import Bench
from slim.errors import SettingsError
from slim.network.classifier import Classifier
from slim.runs.settings import RunSettings, read_recipe
from slim.stages.annotate.annotate import annotate
from slim.stages.annotate.annotator import Annotator, ask
from slim.stages.annotate.page.server import BrowserAnnotator
from slim.stages.annotate.queries import Queries
from slim.stages.annotate.registry import choose_annotator
from slim.stages.annotate.settings import AnnotateSettings
from slim.stages.annotate.terminal import TerminalAnnotator
from slim.stages.attend import Attention, SplitAttention
from slim.stages.curate.curate import curate
from slim.stages.curate.subset import Subset
from slim.stages.embed import Space, embed
from slim.stages.judgements import CORE, Judgements
from slim.stages.propagate.propagate import propagate
from slim.stages.propagate.scores import Scores
from slim.stages.retrain.last_layer import Head
from slim.stages.retrain.random_subset import random_subset
from slim.stages.retrain.retrain import Selection, fit_subset_head, train_on
from slim.stages.settings import EmbedSettings

Answers = NDArray[np.int8]
"""Answer codes (n,) of a pool, as `Judgements.codes` returns them."""

FEATURE_CLUSTERS = 2


@dataclass(frozen=True, eq=False)
class SelectedSubset:
    """A subset of the pool to retrain on.

    Attributes
    ----------
    selection
        The images, and the cells that a last layer is balanced and tuned by.
    judgements
        Number of answers used.
    shortcut
        False = no shortcut was found, so that the reference model is kept.
    """

    selection: Selection
    judgements: int = 0
    shortcut: bool = True

    @classmethod
    def of(cls, subset: Subset, bench: Bench, judgements: int, settings: RunSettings | None = None) -> SelectedSubset:
        """A curated subset, with the cells that the last layer is balanced over."""
        fits_val = (settings or bench.settings)["retrain"].fits_val(subset.pool)
        cells = subset.cell(with_val=fits_val)
        selection = Selection(subset.index, cells, subset.kept, subset.balanced, fits_val)
        return cls(selection, judgements, subset.shortcut)

    def fit_head(self, bench: Bench) -> Head | None:
        """The last layer fitted to the subset; None where the reference model is kept."""
        if not self.shortcut:
            return None
        return fit_subset_head(
            bench.data,
            bench.reference,
            bench.attention,
            self.selection,
            bench.settings["retrain"],
            pool=bench.space.pool,
            seed=bench.seed,
        )

    def train(self, bench: Bench, folder: Path) -> Classifier:
        """The whole network trained on the subset; the reference model where it is kept."""
        if not self.shortcut:
            return bench.reference
        settings = bench.settings
        return train_on(
            self.selection.index,
            bench.data,
            bench.reference,
            bench.space.pool,
            settings["retrain"],
            settings["train"],
            bench.seed,
            folder,
        )

    def with_val(self) -> SelectedSubset:
        """The same subset, with the last layer fitted to val as well."""
        return replace(self, selection=replace(self.selection, fits_val=True))


def _plain(bench: Bench, index: Ints, cells: Ints | None = None) -> SelectedSubset:
    """Images selected without judgements."""
    selection = Selection.plain(index, len(bench.pool))
    return SelectedSubset(selection if cells is None else replace(selection, cells=cells))


def random_images(bench: Bench) -> SelectedSubset:
    """Images drawn at random."""
    return _plain(bench, random_subset(bench.pool.y, bench.size, bench.seed))


def class_balanced(bench: Bench) -> SelectedSubset:
    """Equally many images of each class."""
    return _plain(bench, balanced_subset(bench.pool.y, bench.size, bench.seed))


def cluster_balanced(bench: Bench) -> SelectedSubset:
    """Equally many images of each class and cluster of penultimate features."""
    cells = feature_cells(np.asarray(bench.pool_attention.features), bench.pool.y, FEATURE_CLUSTERS, bench.seed)
    # The cells contain the class; images of val join by the cluster alone.
    return _plain(bench, balanced_subset(cells, bench.size, bench.seed), cells % FEATURE_CLUSTERS)


def group_balanced(bench: Bench) -> SelectedSubset:
    """Equally many images of each group; uses group labels."""
    groups = bench.groups(bench.space.pool)
    return _plain(bench, balanced_subset(groups, bench.size, bench.seed), groups)


def slim_subset(bench: Bench, **changed: Mapping[str, Any]) -> SelectedSubset:
    """SLIM's curated subset with the settings of the run, some of them changed."""
    return _judged_and_curated(bench, bench.settings.updated(changed), bench.attention, bench.space)


def published(bench: Bench) -> SelectedSubset:
    """SLIM with the published recipe, at the budget and subset size of the run."""
    return _judged_and_curated(bench, *published_parts(bench))


def published_parts(bench: Bench) -> tuple[RunSettings, Attention, Space]:
    """The settings of the published recipe, and the attention (pooled by sum) and space that they give."""
    own = bench.settings
    start = {"train": own["train"], "embed": EmbedSettings(pool=own["embed"].pool)}
    recipe = RunSettings(stages=start, seed=own.seed).updated(read_recipe("published"))
    queries = recipe["annotate"]
    adapted = {
        "annotate": replace(own["annotate"], select=queries.select, candidates=queries.candidates),
        "curate": replace(recipe["curate"], size=own["curate"].size),
    }
    settings = replace(recipe, stages={**recipe.stages, **adapted})
    attention = summed(bench.attention) if own["attend"].pooling == "mean" else bench.attention
    return settings, attention, embed(attention, settings["embed"], seed=own.seed)


def summed(attention: Attention) -> Attention:
    """Convert attention with features pooled by mean to attention with features pooled by sum.

    Examples
    --------
    >>> maps = np.array([[[1.0, 0.5]]])
    >>> split = SplitAttention(maps, np.array([[2.0]]), np.array([[4.0]]), maps[0], maps[0], maps[0])
    >>> train = summed(Attention(split, split, split)).train
    >>> train.core.tolist(), train.environment.tolist()
    ([[3.0]], [[2.0]])
    """
    return Attention(*(_summed(part) for part in (attention.train, attention.val, attention.test)))


def _summed(attention: SplitAttention) -> SplitAttention:
    """The same for one split."""
    mass = np.asarray(attention.maps).sum((1, 2))[:, None]
    area = attention.maps.shape[1] * attention.maps.shape[2]
    return replace(
        attention,
        core=np.asarray(attention.core) * mass,
        environment=np.asarray(attention.environment) * (area - mass),
    )


def _judged_and_curated(bench: Bench, settings: RunSettings, attention: Attention, space: Space) -> SelectedSubset:
    """The stages annotate, propagate and curate."""
    scores, judgements = judged_scores(bench, settings, attention, space)
    return SelectedSubset.of(curated(bench, settings, attention, space, scores), bench, len(judgements), settings)


def judged_scores(bench: Bench, settings: RunSettings, attention: Attention, space: Space) -> tuple[Scores, Judgements]:
    """Attention scores of the pool, and the judgements that they come from."""
    annotation = settings["annotate"]
    annotator = unattended_annotator(bench, annotation)
    judgements = annotate(bench.data, attention, space, annotation, annotator=annotator, seed=bench.seed)
    return propagate(bench.data, space, judgements, settings["propagate"]), judgements


def unattended_annotator(bench: Bench, settings: AnnotateSettings) -> Annotator:
    """An annotator that needs no person."""
    annotator = choose_annotator(settings, bench.pool, seed=bench.seed)
    if isinstance(annotator, BrowserAnnotator | TerminalAnnotator):
        raise SettingsError(
            "A comparison must take its answers from masks, boxes or a file, since every seed has other queries. Got "
            "data without. Add --annotate.recorded FILE.csv, or choose rows without judgements (--rows)."
        )
    return annotator


def true_answers(bench: Bench) -> Answers:
    """The oracle's answer (n,) about every image of the pool, without noise."""
    pool, settings = bench.pool, replace(bench.settings["annotate"], noise=0.0, clicks=False, click_noise=0.0)
    everything = Queries(np.arange(len(pool)), pool.y, pool, bench.pool_attention.maps, pool.class_names)
    return ask(everything, unattended_annotator(bench, settings)).codes(len(pool))


def all_judged(bench: Bench) -> SelectedSubset:
    """SLIM's curation with the true answer about every image: the ceiling for any number of answers."""
    n = len(bench.pool)
    # Core above everything else, in random order among equals.
    values = (true_answers(bench) == CORE) / 2 + np.random.default_rng((bench.seed, 6)).random(n) / 2
    return _by_values(bench, values, n)


def unjudged(bench: Bench) -> SelectedSubset:
    """SLIM's curation with random scores."""
    return _by_values(bench, np.random.default_rng((bench.seed, 4)).random(len(bench.pool)), 0)


def _by_values(bench: Bench, values: Floats, judgements: int) -> SelectedSubset:
    """The stage curate, with scores (n,) from elsewhere."""
    subset = curated(bench, bench.settings, bench.attention, bench.space, Scores(values, ()))
    return SelectedSubset.of(subset, bench, judgements)


def curated(bench: Bench, settings: RunSettings, attention: Attention, space: Space, scores: Scores) -> Subset:
    """The stage curate."""
    return curate(bench.data, bench.reference, attention, space, scores, settings["curate"], seed=bench.seed)
