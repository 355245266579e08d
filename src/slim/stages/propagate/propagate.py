"""Stage 5: from a few judgements to an attention score for every image, and how far to trust the scores.

By default one logistic regression over all classes, on the components of the attention space (`regression`). As
published: label spreading within each class, on the two-dimensional plane (`label_spreading`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slim.arguments import checked
from slim.arrays import Floats, Ints
from slim.data import Dataset
from slim.errors import AnnotationError, DataError, SlimWarning
from slim.stages.embed import Space
from slim.stages.judgements import CORE, SPURIOUS, UNASKED, UNSURE, Judgements
from slim.stages.propagate.auc_interval import auc_with_interval
from slim.stages.propagate.label_spreading import JudgedPoints, core_probabilities
from slim.stages.propagate.left_out_auc import left_out_comparisons
from slim.stages.propagate.regression import Regression
from slim.stages.propagate.scores import ClassTrust, Scores, Verdict
from slim.stages.settings import PropagateSettings

FLAT = 1e-6  # probabilities whose range is smaller do not rank images


@checked
def propagate(data: Dataset, space: Space, judgements: Judgements, settings: PropagateSettings | None = None) -> Scores:
    """Generalise the judgements to every image of the pool.

    Parameters
    ----------
    data, space
        The images, and the attention space of the pool.
    judgements
        About images of the pool.
    settings
        See `PropagateSettings`.

    Returns
    -------
    Scores
        Scores in [0, 1], 1 = looks at the core, and for each class how far to trust them.

    Raises
    ------
    AnnotationError
        A class has no image judged core or spurious.

    Warns
    -----
    SlimWarning
        See `propagate_answers`, which also describes the method.

    Examples
    --------
    ``scores = slim.propagate(data, space, judgements)``
    """
    settings, table = settings or PropagateSettings(), data.split(space.pool)
    points, answers = space.points(settings.method), judgements.codes(len(table))
    return propagate_answers(points, table.y, answers, settings, class_names=table.class_names)


def propagate_answers(
    points: npt.ArrayLike,
    y: npt.ArrayLike,
    answers: npt.ArrayLike,
    settings: PropagateSettings | None = None,
    *,
    class_names: Sequence[str],
) -> Scores:
    """Give every image an attention score, from the judgements of a few images.

    Regression: one logistic regression on all answers gives each image's probability of core. Spreading works within
    each class: coordinates are z-scored, the answers core and spurious spread over the graph with weights
    ``exp(-gamma * squared distance)``, and the result is smoothed once with the same kernel over all images of the
    class. Either way, probabilities are scaled so that the lowest in each class is 0 and the highest 1.

    Parameters
    ----------
    points
        Points of the attention space: (n, d) `Space.components` for regression, (n, 2) `Space.plane` for spreading.
    y
        (n,) label of each image, an index into `class_names`.
    answers
        (n,) `CORE`, `SPURIOUS`, `UNSURE` or `UNASKED` for each image, as `Judgements.codes` returns them. Unsure and
        unasked are both unlabelled, but counted separately.
    settings
        Method and kernel.
    class_names
        The name of each class.

    Returns
    -------
    Scores
        `values` (n,) in [0, 1], 1 = looks at the core, and for each class how far to trust them.

    Raises
    ------
    DataError
        Shapes do not fit, a point is not finite, or a class has no image.
    AnnotationError
        A class has no answer core or spurious, or an answer is none of the four.

    Warns
    -----
    SlimWarning
        A class has answers of one kind only, so whether its scores can be trusted is unknown; if there are no answers
        of the other kind at all (spreading: none within the class), they are all 1 (core) or all 0 (spurious). Or the
        scores of a class are not shown to be above chance.

    Notes
    -----
    **Spreading.** The probabilities are those of scikit-learn's ``LabelSpreading(kernel="rbf", gamma=gamma,
    alpha=1e-6)``, the paper's alpha, and its ``predict_proba`` on the class's own points, in O(n) memory. We differ far
    from the judged images, where scikit-learn's probabilities underflow to 0/0: a point at any distance follows the
    judged images that are nearest to it.

    The images of a class whose probabilities differ by less than 1e-6 cannot be ranked; their scores are all 0.5.

    **Trust.** For each pair of a core and a spurious image, both answers are left out, and the regression, or the first
    step of spreading and the smoothing, gives their probabilities; the AUC is the share of pairs in which the core
    image's is higher. Its interval is method 5 of Newcombe (2006), widened because left-out scores share answers. Pairs
    are left out because, without a single image, the remaining answers lean towards the other kind, which drives the
    AUC below 0.5 if answers and space are unrelated. Unless gamma is set, spreading picks that of 1, 2, 5, 10, 20, 50
    with the smallest log loss of the probabilities without each image's own answer; it is picked again without each
    pair (`slim.stages.propagate.left_out_auc` states where that is approximate).

    References
    ----------
    .. [1] Zhou et al., "Learning with local and global consistency", NeurIPS 2004.
    .. [2] Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2",
       Statistics in Medicine 25, 2006.

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(200, 2))
    >>> right = points[:, 0] > 0
    >>> judged = np.where(np.arange(200) < 20, np.where(right, CORE, SPURIOUS), UNASKED)
    >>> scores = propagate_answers(points, np.zeros(200, int), judged, class_names=["bird"])
    >>> scores
    Scores of 200 images
    class  core  spurious  unsure  unasked  gamma  AUC (95% interval)   verdict
    bird   7     13        0       180      -      0.99 (0.65 to 1.00)  above chance
    >>> round(float(scores.values[right].mean()), 1), round(float(scores.values[~right].mean()), 1)
    (0.8, 0.2)
    """
    settings = settings or PropagateSettings()
    places, labels, codes = _checked(points, y, answers, len(class_names), settings.method)
    values = np.empty(len(places), dtype=np.float32)
    trust = []
    fitted = FittedRegression.fit(places, codes) if settings.method == "regression" else None
    for label, name in enumerate(class_names):
        members = np.flatnonzero(labels == label)
        if fitted is None:
            values[members], one = propagate_class(places[members], codes[members], settings, name)
        else:
            values[members], one = fitted.of_class(members, name)
        trust.append(one)
        if one.verdict != "above chance":
            warnings.warn(_warning(one, values[members]), SlimWarning, stacklevel=2)
    return Scores(values, tuple(trust))


def _checked(
    places: npt.ArrayLike, y: npt.ArrayLike, answers: npt.ArrayLike, n_classes: int, method: str
) -> tuple[Floats, Ints, npt.NDArray[np.int8]]:
    """The inputs as arrays, checked to be of the same images."""
    points, labels, codes = np.asarray(places, dtype=np.float64), np.asarray(y), np.asarray(answers)
    n = len(labels)
    wide = points.shape[1:] == (2,) if method == "spreading" else points.ndim == 2
    if not wide or len(points) != n or labels.ndim != 1 or codes.shape != (n,):
        raise DataError(
            f"Points (n, {2 if method == 'spreading' else 'd'}), labels (n,) and answers (n,) must be of the same "
            f"images. Got {points.shape}, {labels.shape} and {codes.shape}. Run: slim embed RUN"
        )
    broken = n - int(np.isfinite(points).all(axis=1).sum())
    if broken:
        raise DataError(f"Points must be finite. Got {broken} of {n} that are not. Run: slim embed RUN")
    absent = sorted(set(range(n_classes)) - set(labels.tolist()))
    if absent or set(labels.tolist()) - set(range(n_classes)):
        raise DataError(
            f"Labels must be 0 to {n_classes - 1}, each with images. Got {np.unique(labels)}. Check the labels."
        )
    strange = np.setdiff1d(codes, [SPURIOUS, CORE, UNSURE, UNASKED])
    if strange.size:
        raise AnnotationError(f"Answers must be 0, 1, 2 or 3. Got {strange[0]}. Take them from Judgements.codes.")
    return points, labels.astype(np.int64), codes.astype(np.int8)


def _warning(trust: ClassTrust, values: npt.NDArray[np.float32]) -> str:
    """The warning about a class whose scores are not shown to be above chance."""
    n = trust.n_core + trust.n_spurious
    if trust.verdict == "one kind of answer":
        kind, value = ("core", 1) if trust.n_core else ("spurious", 0)
        ranked = bool(np.ptp(values))
        consequence = (
            "its attention scores rely on the answers about other classes, and it is unknown whether they can be "
            "trusted"
            if ranked
            else f"all its attention scores are {value} and do not rank its images"
        )
        return (
            f"Class {trust.class_name!r} has answers of one kind only ({n} {kind}): {consequence}. "
            "Judge more images: slim annotate RUN --budget N"
        )
    return (
        f"Attention scores of class {trust.class_name!r} are not shown to beat chance: AUC {trust.auc:.2f} "
        f"(95 % interval {trust.low:.2f} to {trust.high:.2f}; 0.5 is chance) from {n} answers. A subset chosen by them "
        "may be no better than a random one. Judge more images (slim annotate RUN --budget N) or attend to another "
        "layer (slim run RUN --train.layer NAME)."
    )


@dataclass(frozen=True, eq=False)
class FittedRegression:
    """The regression on all answers, with what it was fitted to.

    Attributes
    ----------
    points, codes
        (n, d) points and (n,) answers of all images.
    judged
        (m,) positions of the images judged core or spurious.
    regression
        None if all answers are of one kind.
    """

    points: Floats
    codes: npt.NDArray[np.int8]
    judged: Ints
    regression: Regression | None

    @classmethod
    def fit(cls, points: Floats, codes: npt.NDArray[np.int8]) -> FittedRegression:
        """Fit to the answers core and spurious among codes (n,), at points (n, d)."""
        judged = np.flatnonzero(codes <= CORE)
        core = codes[judged] == CORE
        both = 0 < int(core.sum()) < len(core)
        return cls(points, codes, judged, Regression.fit(points[judged], core) if both else None)

    def of_class(self, members: Ints, name: str) -> tuple[Floats, ClassTrust]:
        """The (n,) attention scores of a class's images, and their trust.

        Raises
        ------
        AnnotationError
            No image of the class was judged core or spurious.
        """
        counts = _counts(self.codes[members], name)
        if self.regression is None:
            scores = np.full(len(members), float(self.codes[self.judged[0]]))
        else:
            scores = _min_max(self.regression.probabilities(self.points[members]))
        if self.regression is None or not (counts[1] and counts[2]):
            return scores, ClassTrust(*counts, None, None, None, None, "one kind of answer")
        among = np.isin(self.judged, members)
        auc, low, high = auc_with_interval(self.regression.left_out_comparisons(among))
        return scores, ClassTrust(*counts, None, auc, low, high, "above chance" if low > 0.5 else "not above chance")


def _counts(codes: npt.NDArray[np.int8], name: str) -> tuple[str, int, int, int, int]:
    """A class's name, and its numbers of core, spurious, unsure and unasked images."""
    n_spurious, n_core, n_unsure, n_unasked = np.bincount(codes, minlength=4).tolist()
    if not n_core + n_spurious:
        raise AnnotationError(
            f"Class {name!r} must have an image judged core or spurious. Got {n_unsure} unsure and no other answer. "
            "Run: slim annotate RUN"
        )
    return name, n_core, n_spurious, n_unsure, n_unasked


def propagate_class(
    coordinates: Floats, codes: npt.NDArray[np.int8], settings: PropagateSettings, name: str
) -> tuple[Floats, ClassTrust]:
    """One class's (n,) attention scores by spreading, and their trust.

    Parameters
    ----------
    coordinates
        (n, 2) points of the class's images on the plane.
    codes
        (n,) their answers, as `Judgements.codes` returns them.
    settings, name
        Kernel and clamping, and the name of the class.

    Raises
    ------
    AnnotationError
        No image was judged core or spurious.
    """
    counts = _counts(codes, name)
    if not (counts[1] and counts[2]):
        constant = np.full(len(codes), 1.0 if counts[1] else 0.0)
        return constant, ClassTrust(*counts, None, None, None, None, "one kind of answer")
    judged = np.flatnonzero(codes <= CORE)
    task = JudgedPoints(_z_scored(coordinates), judged, codes[judged] == CORE)
    gamma, comparisons = left_out_comparisons(task, settings.gamma)
    auc, low, high = auc_with_interval(comparisons)
    verdict: Verdict = "above chance" if low > 0.5 else "not above chance"
    scores = _min_max(core_probabilities(task, gamma))
    return scores, ClassTrust(*counts, gamma, auc, low, high, verdict)


def _z_scored(coordinates: Floats) -> Floats:
    """Mean 0 and standard deviation 1 in each column; a constant column becomes 0."""
    spread = np.where(np.ptp(coordinates, axis=0) > 0, coordinates.std(axis=0), 1.0)
    return np.asarray((coordinates - coordinates.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def _min_max(probabilities: Floats) -> Floats:
    """Scaled to [0, 1]; all 0.5 if they are (almost) equal."""
    low, high = probabilities.min(), probabilities.max()
    if high - low < FLAT:
        return np.full_like(probabilities, 0.5)
    return np.asarray((probabilities - low) / (high - low))
