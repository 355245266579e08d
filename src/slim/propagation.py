"""From a few judgements to an attention score of every image, and how far to trust it.

By default one regression over all classes, on the components of the attention space (`slim.regression`). As published:
label spreading within each class, on the two-dimensional plane (`slim.spreading`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from slim.artifacts import read_json, write_json
from slim.errors import AnnotationError, ArtifactError, DataError, SettingsError, SlimWarning
from slim.gauss import FloatArray, IntArray
from slim.regression import Regression
from slim.spreading import JudgedPoints, core_probabilities
from slim.trust import auc_with_interval, left_out_comparisons

SPURIOUS, CORE, UNSURE, UNASKED = 0, 1, 2, 3
ANSWERS = {"spurious": SPURIOUS, "core": CORE, "unsure": UNSURE}

FLAT = 1e-6  # probabilities that differ by less do not tell images apart

Verdict = Literal["above chance", "not above chance", "one kind of answer"]


@dataclass(frozen=True)
class PropagateSettings:
    """How judgements spread over the attention space.

    Parameters
    ----------
    method
        "regression" of the answers on the components of the space, one for all classes; or "spreading" over its plane,
        each class by itself (published).
    gamma
        Of spreading: inverse width of the kernel ``exp(-gamma * squared distance)`` in the z-scored plane. Picked from
        the judgements, class by class, when not given.
    alpha
        Of spreading: how much an image takes from its neighbours rather than from its own judgement, between 0 and 1.

    Examples
    --------
    >>> PropagateSettings(gamma=10)
    PropagateSettings(method='regression', gamma=10, alpha=1e-06)
    """

    method: Literal["regression", "spreading"] = "regression"
    gamma: float | None = None
    alpha: float = 1e-6

    def __post_init__(self) -> None:
        if self.gamma is not None and not 0 < self.gamma <= 1e6:
            raise SettingsError(
                f"gamma must be above 0 and at most 1000000. Got {self.gamma}. Typical values: 1 to 50."
            )
        if not 0 < self.alpha < 1:
            raise SettingsError(f"alpha must be above 0 and below 1. Got {self.alpha}. The paper's value is 1e-6.")


@dataclass(frozen=True)
class ClassTrust:
    """How far the attention scores of a class can be trusted.

    Attributes
    ----------
    class_name
        The class.
    n_core, n_spurious, n_unsure, n_unasked
        How many of its images were answered so, or not asked about.
    gamma
        The kernel's gamma that was used; None where none is needed: by regression, and with one kind of answer.
    auc
        Area under the ROC curve of the judged images' scores against answers that these scores never saw: the chance
        that a core image scores above a spurious one; 0.5 is chance, 1 is perfect. None with one kind of answer.
    low, high
        Its 95 % interval.
    verdict
        ``"above chance"`` only when `low` is above 0.5.
    """

    class_name: str
    n_core: int
    n_spurious: int
    n_unsure: int
    n_unasked: int
    gamma: float | None
    auc: float | None
    low: float | None
    high: float | None
    verdict: Verdict


@dataclass(frozen=True, eq=False, repr=False)
class Scores:
    """The attention score of every image.

    Attributes
    ----------
    values
        (n,) float32 in [0, 1]; 1 = looks at the core. Scaled within each class, so not comparable between classes.
    trust
        For each class, how far its scores can be trusted.
    """

    values: npt.NDArray[np.float32]
    trust: tuple[ClassTrust, ...]

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("class", "core", "spurious", "unsure", "unasked", "gamma", "AUC (95% interval)", "verdict")
        ]
        rows += [_row(trust) for trust in self.trust]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([f"Scores of {len(self)} images", *lines])

    def save(self, folder: Path | str) -> None:
        """Write ``scores.npy`` and ``trust.json``; the folder is made when there is none."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        np.save(Path(folder) / "scores.npy", self.values)
        write_json(Path(folder) / "trust.json", {"classes": [asdict(trust) for trust in self.trust]})

    @classmethod
    def load(cls, folder: Path | str) -> Scores:
        """Read what `save` wrote.

        Raises
        ------
        ArtifactError
            A file is missing.
        """
        for name in ("scores.npy", "trust.json"):
            if not (Path(folder) / name).exists():
                raise ArtifactError(f"{folder} must hold attention scores. Got no {name}. Run: slim propagate RUN")
        trust = read_json(Path(folder) / "trust.json")["classes"]
        return cls(np.load(Path(folder) / "scores.npy"), tuple(ClassTrust(**one) for one in trust))


def _row(trust: ClassTrust) -> tuple[str, ...]:
    """A class's line of the table that `Scores` prints."""
    counts = (trust.n_core, trust.n_spurious, trust.n_unsure, trust.n_unasked)
    gamma = "-" if trust.gamma is None else f"{trust.gamma:g}"
    auc = "-" if trust.auc is None else f"{trust.auc:.2f} ({trust.low:.2f} to {trust.high:.2f})"
    return (trust.class_name, *map(str, counts), gamma, auc, trust.verdict)


def answers_array(n: int, index: npt.ArrayLike, answers: Sequence[str]) -> npt.NDArray[np.int8]:
    """The answer of every image, from the judgements of a few.

    Parameters
    ----------
    n
        Number of images.
    index
        (j,) the image that each judgement is about.
    answers
        (j,) each ``"core"``, ``"spurious"`` or ``"unsure"``.

    Returns
    -------
    numpy.ndarray
        (n,) int8 of `CORE` (1), `SPURIOUS` (0), `UNSURE` (2) and, everywhere else, `UNASKED` (3).

    Raises
    ------
    AnnotationError
        An answer is unknown, an image does not exist, or two judgements are about the same image.

    Examples
    --------
    >>> answers_array(5, [3, 0], ["core", "unsure"])
    array([2, 3, 3, 1, 3], dtype=int8)
    """
    asked = np.asarray(index)
    if asked.size and asked.dtype.kind not in "iu":
        raise AnnotationError(f"Judgements must name images by whole numbers. Got {asked.dtype}. Check column index.")
    if asked.shape != (len(answers),):
        raise AnnotationError(f"Each judgement needs one image. Got {asked.shape} images for {len(answers)} answers.")
    unknown = sorted({str(answer) for answer in answers} - ANSWERS.keys())
    if unknown:
        raise AnnotationError(f"An answer must be core, spurious or unsure. Got {unknown[0]!r}. Check the judgements.")
    outside = asked[(asked < 0) | (asked >= n)]
    if outside.size:
        raise AnnotationError(
            f"Judged images must be from 0 to {n - 1}. Got {outside[0]}. Are they of another data set?"
        )
    seen, times = np.unique(asked, return_counts=True)
    if (times > 1).any():
        raise AnnotationError(
            f"An image must be judged once. Got image {seen[times > 1][0]} twice. Keep one answer of it."
        )
    codes = np.full(n, UNASKED, dtype=np.int8)
    codes[asked.astype(np.int64)] = [ANSWERS[str(answer)] for answer in answers]
    return codes


def propagate(
    points: npt.ArrayLike,
    y: npt.ArrayLike,
    answers: npt.ArrayLike,
    settings: PropagateSettings = PropagateSettings(),
    *,
    class_names: Sequence[str],
) -> Scores:
    """Give every image an attention score from the judgements of a few.

    By regression: one logistic regression of all answers gives each image's probability of core. By spreading, each
    class by itself: its coordinates are z-scored, answers core and spurious spread over the graph with weights
    ``exp(-gamma * squared distance)``, and the result is smoothed once with the same kernel over all its images.
    Either way the probabilities are scaled so that a class's lowest is 0 and its highest 1.

    Parameters
    ----------
    points
        Of the attention space: (n, d) `components` for the regression, the (n, 2) plane `core` for spreading.
    y
        (n,) label of each image, an index into `class_names`.
    answers
        (n,) `CORE`, `SPURIOUS`, `UNSURE` or `UNASKED` for each image, as `answers_array` makes them. Unsure and unasked
        are both unlabelled; they are counted apart.
    settings
        Method, kernel and clamping.
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
        A class has one kind of answer only: whether its scores can be trusted is not known, and where no other answer
        is of the other kind (by spreading, none of its class) they are all 1 (all core) or 0 (all spurious). Or its
        scores are not shown to be above chance.

    Notes
    -----
    **Spreading.** The probabilities are those of scikit-learn's
    ``LabelSpreading(kernel="rbf", gamma=gamma, alpha=alpha)`` and its ``predict_proba`` on the class's own points, to
    within 1e-3 (typically 1e-7), in O(n) memory. We differ far from the judged images, where scikit-learn runs out of
    floating point and answers 0/0:

    - at the default alpha, a point at any distance goes with the judged images that are nearest to it;
    - with an alpha so large (0.01, say) that answers take further steps, a point without neighbours (kernel sum below
      1e-10), or that no answer reaches (hops end at 10 standard deviations of the kernel), takes the kernel-weighted
      value of the 64 nearest points that were reached.

    A class whose probabilities differ by less than 1e-6 cannot be ranked; its scores are all 0.5.

    **Trust.** Each pair of a core and a spurious image in turn loses both answers, and the regression, or the first
    step of the spreading and the smoothing, give their probabilities; the AUC is the share of pairs in which the core
    image's is higher. Its interval is method 5 of Newcombe (2006), widened, since left-out scores share answers. Pairs,
    since without a single image the answers that stay lean to the other kind, which drives the AUC below 0.5 where
    answers and space are unrelated. Where spreading's gamma is picked, it is the one of 1, 2, 5, 10, 20, 50 with the
    smallest log loss of the probabilities without each image's own answer; it is picked again without each pair
    (`slim.trust` says where that is approximate).

    References
    ----------
    .. [1] Zhou et al., "Learning with local and global consistency", NeurIPS 2004.
    .. [2] Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2",
       Statistics in Medicine 25, 2006.

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(200, 2))
    >>> right = points[:, 0] > 0
    >>> judged = answers_array(200, range(20), ["core" if one else "spurious" for one in right[:20]])
    >>> scores = propagate(points, np.zeros(200, int), judged, class_names=["bird"])
    >>> scores
    Scores of 200 images
    class  core  spurious  unsure  unasked  gamma  AUC (95% interval)   verdict
    bird   7     13        0       180      -      0.99 (0.65 to 1.00)  above chance
    >>> round(float(scores.values[right].mean()), 1), round(float(scores.values[~right].mean()), 1)
    (0.8, 0.2)
    """
    places, labels, codes = _checked(points, y, answers, len(class_names), settings.method)
    values = np.empty(len(places), dtype=np.float32)
    trust = []
    fitted = FittedRegression.of(places, codes) if settings.method == "regression" else None
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
) -> tuple[FloatArray, IntArray, npt.NDArray[np.int8]]:
    """The inputs as arrays that fit each other."""
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
        raise AnnotationError(f"Answers must be 0, 1, 2 or 3. Got {strange[0]}. Make them with answers_array.")
    return points, labels.astype(np.int64), codes.astype(np.int8)


def _warning(trust: ClassTrust, values: npt.NDArray[np.float32]) -> str:
    """What the user should know before he goes on."""
    if trust.verdict == "one kind of answer":
        kind, value = ("core", 1) if trust.n_core else ("spurious", 0)
        ranked = bool(np.ptp(values))
        needs, so = (
            ("to tell whether its scores can be trusted", "they rest on the answers about other classes")
            if ranked
            else ("to rank its images", f"all its attention scores are {value}")
        )
        return (
            f"Class {trust.class_name!r} needs answers of both kinds {needs}. Got {kind} only "
            f"({trust.n_core + trust.n_spurious}), so {so}. Judge more images: slim annotate RUN --budget N"
        )
    return (
        f"Attention scores of class {trust.class_name!r} must predict left-out answers better than chance. "
        f"Got AUC {trust.auc:.2f} (95% interval {trust.low:.2f} to {trust.high:.2f}; 0.5 is chance) from "
        f"{trust.n_core + trust.n_spurious} answers: a subset picked by them may be no better than a random one. "
        "Judge more images (slim annotate RUN --budget N) or attend to another layer (slim run RUN --train.layer NAME)."
    )


@dataclass(frozen=True, eq=False)
class FittedRegression:
    """The regression of all answers.

    Attributes
    ----------
    points, codes
        (n, d) and (n,) of all images.
    judged
        (m,) positions of those answered core or spurious.
    regression
        None where all answers are of one kind.
    """

    points: FloatArray
    codes: npt.NDArray[np.int8]
    judged: IntArray
    regression: Regression | None

    @classmethod
    def of(cls, points: FloatArray, codes: npt.NDArray[np.int8]) -> FittedRegression:
        """From points (n, d) and codes (n,): the regression of all answers core and spurious among them."""
        judged = np.flatnonzero(codes <= CORE)
        core = codes[judged] == CORE
        both = 0 < int(core.sum()) < len(core)
        return cls(points, codes, judged, Regression.fit(points[judged], core) if both else None)

    def of_class(self, members: IntArray, name: str) -> tuple[FloatArray, ClassTrust]:
        """(n,) attention scores of a class's images, and their trust.

        Raises
        ------
        AnnotationError
            No answer about the class is core or spurious.
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
    """Name, and numbers of core, spurious, unsure and unasked, of a class."""
    n_spurious, n_core, n_unsure, n_unasked = np.bincount(codes, minlength=4).tolist()
    if not n_core + n_spurious:
        raise AnnotationError(
            f"Class {name!r} must have an image judged core or spurious. Got {n_unsure} unsure and no other answer. "
            "Run: slim annotate RUN"
        )
    return name, n_core, n_spurious, n_unsure, n_unasked


def propagate_class(
    coordinates: FloatArray, codes: npt.NDArray[np.int8], settings: PropagateSettings, name: str
) -> tuple[FloatArray, ClassTrust]:
    """One class's (n,) attention scores by spreading, and their trust.

    Parameters
    ----------
    coordinates
        (n, 2) attention space of the class's images.
    codes
        (n,) their answers, as `answers_array` makes them.
    settings, name
        Kernel and clamping, and what the class is called.

    Raises
    ------
    AnnotationError
        No answer is core or spurious.
    """
    counts = _counts(codes, name)
    if not (counts[1] and counts[2]):
        constant = np.full(len(codes), 1.0 if counts[1] else 0.0)
        return constant, ClassTrust(*counts, None, None, None, None, "one kind of answer")
    judged = np.flatnonzero(codes <= CORE)
    task = JudgedPoints(_z_scored(coordinates), judged, codes[judged] == CORE)
    gamma, comparisons = left_out_comparisons(task, settings.gamma, settings.alpha)
    auc, low, high = auc_with_interval(comparisons)
    verdict: Verdict = "above chance" if low > 0.5 else "not above chance"
    scores = _min_max(core_probabilities(task, gamma, settings.alpha))
    return scores, ClassTrust(*counts, gamma, auc, low, high, verdict)


def _z_scored(coordinates: FloatArray) -> FloatArray:
    """Mean 0 and standard deviation 1 in each column; a constant column becomes 0."""
    spread = np.where(np.ptp(coordinates, axis=0) > 0, coordinates.std(axis=0), 1.0)
    return np.asarray((coordinates - coordinates.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def _min_max(probabilities: FloatArray) -> FloatArray:
    """Scaled to [0, 1]; all 0.5 where nothing tells the images apart."""
    low, high = probabilities.min(), probabilities.max()
    if high - low < FLAT:
        return np.full_like(probabilities, 0.5)
    return np.asarray((probabilities - low) / (high - low))
