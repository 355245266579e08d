"""Side by side: SLIM and what it is compared with, on the same splits, reference models and features."""

from slim.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__)
