"""SLIM: find and remove the shortcuts of an image classifier, with a few dozen human judgements."""

from slim.files import VERSION
from slim.lazy import lazy_names

__version__ = VERSION

__getattr__, __dir__, __all__ = lazy_names(__name__)
