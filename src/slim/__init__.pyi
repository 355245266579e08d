from slim.comparison import compare
from slim.data import Dataset, ImageTable, Inspection, Recomposition, check, load_dataset, recomposed_batches
from slim.data.composing.card import BenchmarkCard
from slim.data.composing.compose import compose
from slim.data.composing.settings import ComposeSettings
from slim.data.demo import compose_demo
from slim.errors import (
    AnnotationError,
    ArtifactError,
    DataError,
    ModelError,
    SettingsError,
    SlimError,
    SlimWarning,
)
from slim.network.build import build, restore, wrap
from slim.network.classifier import Classifier
from slim.network.clip import wrap_clip
from slim.network.export import Exported
from slim.network.look import Look, Looks
from slim.network.pretrained import load_pretrained
from slim.runs.fit import Result, fit
from slim.runs.group_export import export_groups, group_table
from slim.runs.look import look
from slim.runs.model_export import export_model
from slim.runs.run import Run, open_run, run
from slim.runs.settings import RunSettings
from slim.runs.transfer import export_judgements, import_judgements
from slim.stages.annotate.annotate import annotate
from slim.stages.annotate.annotator import Annotator, ask
from slim.stages.annotate.oracle import MaskOracle, NoisyOracle
from slim.stages.annotate.page.server import BrowserAnnotator
from slim.stages.annotate.queries import Queries, Query
from slim.stages.annotate.recorded import RecordedAnswers
from slim.stages.annotate.selection import select_queries
from slim.stages.annotate.settings import AnnotateSettings
from slim.stages.annotate.store import Store
from slim.stages.annotate.terminal import TerminalAnnotator
from slim.stages.attend import Attention, SplitAttention, attend, attend_split
from slim.stages.curate.curate import curate
from slim.stages.curate.subset import Subset
from slim.stages.embed import Space, embed
from slim.stages.evaluate.backgrounds import BackgroundsChallenge, evaluate_backgrounds
from slim.stages.evaluate.evaluate import evaluate
from slim.stages.evaluate.evaluation import Evaluation, Evaluations, Groups
from slim.stages.evaluate.measuring import evaluate_classifier, evaluate_heads
from slim.stages.explain.explain import explain
from slim.stages.explain.explanation import Explanation
from slim.stages.judgements import Judgements, Place
from slim.stages.locate.locate import locate
from slim.stages.locate.object_maps import ObjectMaps
from slim.stages.propagate.propagate import propagate
from slim.stages.propagate.scores import Scores
from slim.stages.report.records import Report, RunFacts
from slim.stages.report.report import report
from slim.stages.retrain.retrain import retrain
from slim.stages.retrain.retrained import Retrained
from slim.stages.settings import (
    AttendSettings,
    CurateSettings,
    EmbedSettings,
    EvaluateSettings,
    ExplainSettings,
    LocateSettings,
    PropagateSettings,
    RetrainSettings,
)
from slim.stages.train import train
from slim.training import TrainSettings, train_classifier

__version__: str

__all__ = [
    "AnnotateSettings",
    "AnnotationError",
    "Annotator",
    "ArtifactError",
    "AttendSettings",
    "Attention",
    "BackgroundsChallenge",
    "BenchmarkCard",
    "BrowserAnnotator",
    "Classifier",
    "ComposeSettings",
    "CurateSettings",
    "DataError",
    "Dataset",
    "EmbedSettings",
    "EvaluateSettings",
    "Evaluation",
    "Evaluations",
    "ExplainSettings",
    "Explanation",
    "Exported",
    "Groups",
    "ImageTable",
    "Inspection",
    "Judgements",
    "LocateSettings",
    "Look",
    "Looks",
    "MaskOracle",
    "ModelError",
    "NoisyOracle",
    "ObjectMaps",
    "Place",
    "PropagateSettings",
    "Queries",
    "Query",
    "Recomposition",
    "RecordedAnswers",
    "Report",
    "Result",
    "RetrainSettings",
    "Retrained",
    "Run",
    "RunFacts",
    "RunSettings",
    "Scores",
    "SettingsError",
    "SlimError",
    "SlimWarning",
    "Space",
    "SplitAttention",
    "Store",
    "Subset",
    "TerminalAnnotator",
    "TrainSettings",
    "__version__",
    "annotate",
    "ask",
    "attend",
    "attend_split",
    "build",
    "check",
    "compare",
    "compose",
    "compose_demo",
    "curate",
    "embed",
    "evaluate",
    "evaluate_backgrounds",
    "evaluate_classifier",
    "evaluate_heads",
    "explain",
    "export_groups",
    "export_judgements",
    "export_model",
    "fit",
    "group_table",
    "import_judgements",
    "load_dataset",
    "load_pretrained",
    "locate",
    "look",
    "open_run",
    "propagate",
    "recomposed_batches",
    "report",
    "restore",
    "retrain",
    "run",
    "select_queries",
    "train",
    "train_classifier",
    "wrap",
    "wrap_clip",
]
