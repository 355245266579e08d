"""One way to train, for the reference model and for the retrained one.

`settings` holds the settings, `sources` yields batches, `loop` runs steps and epochs, `checkpoint` lets a killed
training resume, and `fitting` puts them together.
"""

from slim.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__)
