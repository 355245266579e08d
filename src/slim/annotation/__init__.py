"""Judgements: whom to ask about, who answers, and where the answers are kept.

`queries` and `store` know nothing of how a person is asked; an annotator is any object with a name and an
``answer(query)``.
"""

from slim.annotation.asking import Annotator, Oracle, annotate
from slim.annotation.choosing import choose_annotator
from slim.annotation.judgements import Judgements
from slim.annotation.oracle import BoxOracle, MaskOracle, NoisyOracle
from slim.annotation.queries import AnnotateSettings, Queries, Query, select_queries
from slim.annotation.recorded import RecordedAnswers
from slim.annotation.store import Store
from slim.annotation.terminal import TerminalAnnotator

__all__ = [
    "AnnotateSettings",
    "Annotator",
    "BoxOracle",
    "Judgements",
    "MaskOracle",
    "NoisyOracle",
    "Oracle",
    "Queries",
    "Query",
    "RecordedAnswers",
    "Store",
    "TerminalAnnotator",
    "annotate",
    "choose_annotator",
    "select_queries",
]
