"""Settings of the stages.

Those of `train` are in `slim.training.settings`, those of `annotate` in `slim.stages.annotate.settings`. These modules
import nothing that takes time, since every command builds its options from them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from slim.errors import SettingsError
from slim.network.choices import Method, Precision

MapSource = Literal["answers", "masks", "boxes"]


def plain_settings(settings: Any) -> dict[str, Any]:
    """A settings record as plain values: all that a result depends on."""
    return {name: value for name, value in asdict(settings).items() if name != "workers"}


@dataclass(frozen=True)
class AttendSettings:
    """How attention is computed.

    Parameters
    ----------
    explain
        The class that the map explains: the image's label, or the class that the model predicts.
    pooling
        How features are pooled over positions. "sum" is the published one; "mean" divides by the total weight, so that
        the feature does not depend on the size of the attended region.
    method
        "closed-form" needs no backward pass, but requires a head of global average pooling and one linear layer; "auto"
        uses it for networks with such a head, and "autograd" for others.
    batch_size
        Images per forward pass; by default 32, and 256 on a GPU.
    precision
        Precision of the forward pass; "auto" is bfloat16 where the hardware supports it.
    workers
        Number of processes that read images, 0 for threads; by default threads, or processes if the model runs on a
        GPU.
    """

    explain: Literal["label", "predicted"] = "label"
    pooling: Literal["mean", "sum"] = "mean"
    method: Method = "auto"
    batch_size: int | None = None
    precision: Precision = "auto"
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise SettingsError(f"The batch size must be at least 1. Got {self.batch_size}. Try 32.")


@dataclass(frozen=True)
class EmbedSettings:
    """How features become the attention space.

    Parameters
    ----------
    pool
        Split that the queries and the subset come from: "train" (published) or "val".
    features
        What the plane shows: the "contrast" between what the model sees where it looks and what it sees elsewhere, or
        the "core" features (published).
    plane
        How features become a plane: their first two principal components ("pca"), which are computed at once, or "umap"
        (published), which the published query selection, propagation and curation require.
    metric
        Distance between features; "cosine" compares directions and ignores lengths.
    neighbors
        UMAP's n_neighbors: how local the neighbourhoods are.
    components
        Principal components that UMAP sees.
    fit_on
        UMAP is fitted to at most this many images; the others are projected with the fitted map.
    """

    pool: Literal["train", "val"] = "train"
    features: Literal["core", "contrast"] = "contrast"
    plane: Literal["pca", "umap"] = "pca"
    metric: Literal["cosine", "euclidean"] = "cosine"
    neighbors: int = 5
    components: int = 50
    fit_on: int = 100_000

    def __post_init__(self) -> None:
        for name, least in (("neighbors", 2), ("components", 2), ("fit_on", 10)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} must be at least {least}. Got {getattr(self, name)}. Leave it out.")


@dataclass(frozen=True)
class PropagateSettings:
    """How judgements are generalised to all images.

    Parameters
    ----------
    method
        "regression": one logistic regression on all answers, over the components of the space. "spreading": label
        spreading within each class, over its plane (published).
    gamma
        Spreading: inverse width of the kernel ``exp(-gamma * squared distance)`` in the z-scored plane. By default it
        is chosen for each class from the judgements.

    Examples
    --------
    >>> PropagateSettings(gamma=10)
    PropagateSettings(method='regression', gamma=10)
    """

    method: Literal["regression", "spreading"] = "regression"
    gamma: float | None = None

    def __post_init__(self) -> None:
        if self.gamma is not None and not 0 < self.gamma <= 1e4:
            raise SettingsError(f"gamma must be above 0 and at most 10000. Got {self.gamma}. Typical values: 1 to 50.")


@dataclass(frozen=True)
class LocateSettings:
    """How the object of each image is found.

    Parameters
    ----------
    source
        Where the object maps come from: the "answers", or the data set's own "masks" or "boxes".
    batch_size
        Images per batch.
    workers
        Number of processes that read images; by default threads do.
    """

    source: MapSource = "answers"
    batch_size: int = 64
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise SettingsError(f"The batch size must be at least 1. Got {self.batch_size}. Try 64.")


@dataclass(frozen=True)
class CurateSettings:
    """How the subset is chosen.

    Parameters
    ----------
    size
        Number of images in the subset; classes get equal shares, give or take one image.
    keep
        Share of the images that is kept: those with the highest attention scores. 0.5 keeps those above the median.
    keep_within
        Whether that share is taken within each "cell" (class and environment cluster) or within the whole "class"
        (published). Within cells, scores compare images with similar surroundings, so they can neither remove a rare
        environment nor leave a cell with fewer images than its part of the subset.
    cluster_on
        What is clustered: the 2-D "embedding" (published), or the principal components of the normalised "features".
    balance
        What is balanced besides the class: clusters of "environment" features (published), clusters of the whole
        image's "features" before the linear head, or "auto": the kind and number of clusters that best explain the
        reference model's errors on the val split. In the embedding it is always the environment.
    core_clusters
        Number of clusters of what the model looks at; chosen from 2 to 5 by default.
    environment_clusters
        Number of clusters of what is balanced; chosen from 2 to 5 by default.
    choose_by
        How numbers of clusters that are not set are chosen: by the "elbow" of the inertia (published), or the best
        "silhouette".
    allocation
        Shares of the cells: "uniform" over environment clusters and over the core clusters within each, or in
        proportion to their "spread" (published).
    """

    size: int = 120
    keep: float = 0.5
    keep_within: Literal["cell", "class"] = "cell"
    cluster_on: Literal["features", "embedding"] = "features"
    balance: Literal["auto", "environment", "features"] = "auto"
    core_clusters: int | None = None
    environment_clusters: int | None = None
    choose_by: Literal["elbow", "silhouette"] = "elbow"
    allocation: Literal["uniform", "spread"] = "uniform"

    def __post_init__(self) -> None:
        if self.size < 2:
            raise SettingsError(f"The subset's size must be at least 2. Got {self.size}. Try 120.")
        if not 0 < self.keep <= 1:
            raise SettingsError(f"The share to keep must lie in (0, 1]. Got {self.keep}. Try 0.5.")
        if self.cluster_on == "embedding" and self.balance == "features":
            raise SettingsError(
                "With --cluster-on embedding, only the environment can be balanced. Got features. "
                "Leave out --balance or --cluster-on."
            )
        for name in ("core_clusters", "environment_clusters"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{name} must be at least 1. Got {value}. Leave it out to have it chosen.")


@dataclass(frozen=True)
class RetrainSettings:
    """How the model is retrained.

    Parameters
    ----------
    mode
        "last-layer" refits the linear head on the reference model's frozen features; "full" trains the network again.
    images
        What to retrain on. "recomposed": all images of the pool, the object of each on the backgrounds of others;
        nothing is tuned, and the last epoch is kept, so that a biased val cannot bring a shortcut back. "subset": the
        curated subset, unless no shortcut was found. "auto": recomposed images if the reference model relies on
        backgrounds, else as "subset".
    draws
        Last layer, recomposed images: number of backgrounds per object.
    strength
        Last layer: scikit-learn's C, the inverse strength of the penalty; tuned on held-out images by default, and
        0.001 for recomposed images.
    refits
        Last layer, subset without val: number of fits to resampled subsets, whose weights are averaged.
    use_val
        Last layer: whether to fit to the val images and their class labels as well, with equal weight for every cell.
        The reference model was not trained on them, so their features are more informative than those of as many images
        of the pool. The penalty is then l2; for the subset alone it is l1, as in DFR. With recomposed images, val is
        recomposed as well, and also used unchanged if the shortcut does not help there.
    tune_on
        Last layer, subset: what tuning maximises. "cells" is the worst accuracy over the curated cells of val, or of
        held-out images of the pool if val is not used; "groups" is the worst-group accuracy on val, which needs group
        labels; the report says so. Val is then used for tuning only.
    start
        Full: start from the "weights" that the reference model started from, or from the trained "reference".
    epochs
        Full: number of passes over the subset; with recomposed images, the reference model's number is used.
    lr
        Full: peak learning rate; the reference model's by default.
    """

    mode: Literal["last-layer", "full"] = "last-layer"
    images: Literal["auto", "recomposed", "subset"] = "auto"
    draws: int = 4
    strength: float | None = None
    refits: int = 10
    use_val: bool = True
    tune_on: Literal["cells", "groups"] = "cells"
    start: Literal["weights", "reference"] = "weights"
    epochs: int = 20
    lr: float | None = None

    def __post_init__(self) -> None:
        if self.strength is not None and self.strength <= 0:
            raise SettingsError(f"The strength must be positive. Got {self.strength}. Leave it out to have it tuned.")
        for name in ("draws", "refits", "epochs"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1. Got {getattr(self, name)}. Leave it out.")
        if self.lr is not None and self.lr <= 0:
            raise SettingsError(f"lr must be above 0. Got {self.lr}. Leave it out to use that of the reference model.")

    def fits_val(self, pool: str) -> bool:
        """Whether a last layer is fitted to val as well: only if val neither tunes it by groups nor is the pool."""
        return self.use_val and self.mode == "last-layer" and self.tune_on == "cells" and pool == "train"


@dataclass(frozen=True)
class EvaluateSettings:
    """How a model is evaluated.

    Parameters
    ----------
    regions
        Where the location of the object comes from: "masks", "boxes", or by default masks if there are any, else boxes.
    batch_size
        Images per forward pass; by default 32, and 256 on a GPU.
    precision
        Precision of the forward pass.
    workers
        Number of processes that read images, 0 for threads; by default threads, or processes if the model runs on a
        GPU.
    """

    regions: Literal["auto", "masks", "boxes"] = "auto"
    batch_size: int | None = None
    precision: Precision = "auto"
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise SettingsError(f"The batch size must be at least 1. Got {self.batch_size}. Try 32.")


@dataclass(frozen=True)
class ExplainSettings:
    """How `slim.explain` finds out what a model relies on.

    Parameters
    ----------
    clusters
        Number of clusters of places, before those that occur together are joined.
    concepts
        At most this many concepts are erased and swapped: those most strongly associated with a class.
    images
        Effects are measured on at most this many images of a concept's class, and as many of other classes.
    sample
        Properties are measured on at most this many train images.
    precision
        Precision of the forward pass.
    """

    clusters: int = 24
    concepts: int = 8
    images: int = 60
    sample: int = 2000
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        for name, least in (("clusters", 2), ("concepts", 1), ("images", 10), ("sample", 50)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} must be at least {least}. Got {getattr(self, name)}. Leave it out.")
        if self.clusters > 255:
            raise SettingsError(f"clusters must be at most 255. Got {self.clusters}. Leave it out.")
