"""What a model relies on, without groups and without a person: concepts, and properties of whole images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from slim.arguments import checked
from slim.arrays import Bytes, Flags, Floats, Ints
from slim.data import Dataset
from slim.errors import DataError
from slim.network.classifier import Classifier
from slim.progress import track
from slim.stages.attend import Attention
from slim.stages.explain.concepts import Concepts, attention_of_places, find_concepts
from slim.stages.explain.effects import Prober, Scene, drawn_images
from slim.stages.explain.explanation import Concept, Errors, Explanation
from slim.stages.explain.pictures import concept_pictures, extreme_pictures
from slim.stages.explain.properties import measure_properties, related_properties
from slim.stages.explain.regions import MeasuredImages, with_swapped_regions
from slim.stages.settings import ExplainSettings

_ASSOCIATED = 0.1  # difference of the shares of images that show it
_ORDER = ("misleads", "needed", "no effect shown")


@checked
def explain(
    data: Dataset,
    reference: Classifier,
    attention: Attention,
    settings: ExplainSettings | None = None,
    *,
    seed: int = 0,
) -> Explanation:
    """Find what the model relies on: kinds of attended places, and how much accuracy depends on each.

    Parameters
    ----------
    data, reference, attention
        The images, the model, and where it looks.
    settings
        See `ExplainSettings`.
    seed
        Random seed of the clusters, and of the images and places that are taken.

    Returns
    -------
    Explanation
        See `Concept.verdict`: what "misleads" is a suspect; what is only "needed" may be the object itself.

    Raises
    ------
    DataError
        The attention describes no places.
    ModelError
        The outputs of the reference model are not the classes of the images.

    Notes
    -----
    Places are clustered, and clusters that occur together in images of the same class are joined. Each concept
    associated with a class is then removed in two ways, and the model is run on the results. Erased: its places are
    filled in from their surroundings; as a control, an area of the same size elsewhere is filled in. Swapped: its
    places are replaced by those of another image of the same class that does not show it; as a control, by those of one
    that does. Images of val are used before images of train.

    Examples
    --------
    ``slim.explain(data, reference, attention).concepts[0]``
    """
    settings = settings or ExplainSettings()
    model = reference.for_classes(data.train.class_names)
    evidence = _Evidence.gather(data, attention, settings, seed)
    chosen = evidence.associated()[: settings.concepts]
    z = float(norm.isf(0.025 / max(1, 5 * len(chosen))))
    found = [
        evidence.concept(number, label, model, settings, z, seed)
        for number, label in track(chosen, f"erasing and swapping {len(chosen)} concepts")
    ]
    found.sort(key=lambda one: (_ORDER.index(one.verdict), one.errors.change))
    some = data.train[evidence.sample]
    train, val = measure_properties(some), measure_properties(data.val)
    related = related_properties(train, some.y, val, data.val.y, evidence.val_right, some.class_names)
    measured = (
        MeasuredImages(some, train, evidence.train_right[evidence.sample]),
        MeasuredImages(data.val, val, evidence.val_right),
    )
    related = with_swapped_regions(related, *measured, model, settings, seed)
    extremes = extreme_pictures(some, [one.direction * train[one.name].to_numpy() for one in related])
    pictures = concept_pictures(data.train, evidence.train_cells, evidence.train_shown, [one.number for one in found])
    return Explanation(tuple(found), related, pictures, extremes, len(evidence.concepts))


@dataclass(frozen=True, eq=False)
class _Evidence:
    """What the images of train and val show."""

    data: Dataset
    concepts: Concepts
    train_cells: Bytes
    train_shown: Flags
    train_right: Flags
    val_cells: Bytes
    val_shown: Flags
    val_right: Flags
    attention: Floats
    sample: Ints

    @classmethod
    def gather(cls, data: Dataset, attention: Attention, settings: ExplainSettings, seed: int) -> _Evidence:
        """Find the concepts, and see which images show them."""
        for name in ("train", "val"):
            n, described = len(data.split(name)), len(attention.split(name).places)
            if n != described:
                raise DataError(
                    f"The attention must describe the places of all {n} {name} images. Got {described}. "
                    "Compute it with slim.attend, which attend_split does not replace."
                )
        train, val = attention.train, attention.val
        concepts = find_concepts(train.places, train.maps, data.train.y, settings.clusters, seed)
        train_cells, val_cells = concepts.cells(train.places), concepts.cells(val.places)
        return cls(
            data,
            concepts,
            train_cells,
            concepts.shown(train_cells),
            np.asarray(train.probabilities).argmax(1) == data.train.y,
            val_cells,
            concepts.shown(val_cells),
            np.asarray(val.probabilities).argmax(1) == data.val.y,
            attention_of_places(train.maps, train.places.shape[1]),
            np.sort(np.random.default_rng((seed, 14)).permutation(len(data.train))[: settings.sample]),
        )

    def associated(self) -> list[tuple[int, int]]:
        """Each concept with the class that it goes with most, the closest first; none that goes with no class."""
        y, shown = self.data.train.y, self.train_shown
        labels = [label for label in range(self.data.train.n_classes) if 0 < (y == label).sum() < len(y)]
        if not labels:
            return []
        gaps = np.stack([shown[y == label].mean(0) - shown[y != label].mean(0) for label in labels])
        order = np.argsort(-gaps.max(0), kind="stable")
        return [(int(c), labels[int(gaps[:, c].argmax())]) for c in order if gaps[:, c].max() >= _ASSOCIATED]

    def scene(self, split: str, number: int) -> Scene:
        """The images of a split, and where they show a concept."""
        if split == "train":
            return Scene(self.data.train, self.train_cells == number, self.train_shown[:, number], self.train_right)
        return Scene(self.data.val, self.val_cells == number, self.val_shown[:, number], self.val_right)

    def concept(
        self, number: int, label: int, reference: Classifier, settings: ExplainSettings, z: float, seed: int
    ) -> Concept:
        """A concept with all that is measured about it."""
        train, val = self.scene("train", number), self.scene("val", number)
        own = train.table.y == label
        effects = []
        with Prober(reference, train, settings.precision, z, seed) as prober:
            for of_class in (True, False):
                rng = np.random.default_rng((seed, 15, number, of_class))
                images = drawn_images((val, train), label, of_class, settings.images, rng)
                effects.append({"erased": prober.erased(images), "swapped": prober.swapped(images)})
        others = val.table.y != label
        return Concept(
            number,
            train.table.class_names[label],
            float(train.cells.mean()),
            float(self.attention[train.cells].mean() / max(self.attention.mean(), 1e-9)),
            float(train.shown[own].mean()),
            float(train.shown[~own].mean()),
            Errors.measured(val.right[others], val.shown[others], z),
            *effects,
        )
