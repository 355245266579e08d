"""SLIM: find and remove the shortcuts of an image classifier, with a few dozen human judgements."""

from slim.annotation import (
    AnnotateSettings,
    Annotator,
    BoxOracle,
    BrowserAnnotator,
    Judgements,
    MaskOracle,
    NoisyOracle,
    Queries,
    Query,
    RecordedAnswers,
    Store,
    TerminalAnnotator,
)
from slim.api import annotate, attend, curate, embed, propagate, select_queries
from slim.artifacts import VERSION
from slim.attention import AttendSettings, Attention
from slim.comparison import compare
from slim.curation import CurateSettings, Subset
from slim.datasets import Dataset, ImageTable, load_dataset
from slim.demo import compose_demo
from slim.errors import (
    AnnotationError,
    ArtifactError,
    DataError,
    ModelError,
    SettingsError,
    SlimError,
    SlimWarning,
)
from slim.evaluation import EvaluateSettings, Evaluation, Groups, evaluate, evaluate_heads
from slim.exchange import export_judgements, import_judgements
from slim.factors import Mistakes
from slim.last_layer import Head, HeldOut, RetrainSettings, fit_head
from slim.models import Classifier, build, load_classifier, restore, wrap
from slim.pipeline import Pipeline, open_run, run
from slim.propagation import PropagateSettings, Scores
from slim.settings import RunSettings
from slim.space import EmbedSettings, Space
from slim.training import TrainSettings, train

__version__ = VERSION

__all__ = [
    "AnnotateSettings",
    "AnnotationError",
    "Annotator",
    "ArtifactError",
    "AttendSettings",
    "Attention",
    "BoxOracle",
    "BrowserAnnotator",
    "Classifier",
    "CurateSettings",
    "DataError",
    "Dataset",
    "EmbedSettings",
    "EvaluateSettings",
    "Evaluation",
    "Groups",
    "Head",
    "HeldOut",
    "ImageTable",
    "Judgements",
    "MaskOracle",
    "Mistakes",
    "ModelError",
    "NoisyOracle",
    "Pipeline",
    "PropagateSettings",
    "Queries",
    "Query",
    "RecordedAnswers",
    "RetrainSettings",
    "RunSettings",
    "Scores",
    "SettingsError",
    "SlimError",
    "SlimWarning",
    "Space",
    "Store",
    "Subset",
    "TerminalAnnotator",
    "TrainSettings",
    "__version__",
    "annotate",
    "attend",
    "build",
    "compare",
    "compose_demo",
    "curate",
    "embed",
    "evaluate",
    "evaluate_heads",
    "export_judgements",
    "fit_head",
    "import_judgements",
    "load_classifier",
    "load_dataset",
    "open_run",
    "propagate",
    "restore",
    "run",
    "select_queries",
    "train",
    "wrap",
]
