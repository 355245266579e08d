"""Judgements to other programs and back."""

from slim.annotation.exchange.intake import take_in
from slim.annotation.exchange.records import Sheet

__all__ = ["Sheet", "take_in"]
