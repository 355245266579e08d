"""Judgements: whom to ask about, who answers, and where the answers are kept.

`queries` and `store` know nothing of how a person is asked; an annotator is any object with a name and an
``answer(query)``.
"""

from slim.annotation.asking import Annotator, Oracle, annotate
from slim.annotation.browser import BrowserAnnotator
from slim.annotation.choosing import ask, choose_annotator
from slim.annotation.judgements import Judgements
from slim.annotation.oracle import BoxOracle, MaskOracle, NoisyOracle
from slim.annotation.queries import AnnotateSettings, Answer, Queries, Query, select_queries
from slim.annotation.recorded import RecordedAnswers
from slim.annotation.session import Pool
from slim.annotation.spread import Spread, Trust
from slim.annotation.store import Store
from slim.annotation.terminal import TerminalAnnotator

__all__ = [
    "AnnotateSettings",
    "Annotator",
    "Answer",
    "BoxOracle",
    "BrowserAnnotator",
    "Judgements",
    "MaskOracle",
    "NoisyOracle",
    "Oracle",
    "Pool",
    "Queries",
    "Query",
    "RecordedAnswers",
    "Spread",
    "Store",
    "TerminalAnnotator",
    "Trust",
    "annotate",
    "ask",
    "choose_annotator",
    "select_queries",
]
