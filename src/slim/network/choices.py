"""What settings let one choose about a network, in a module that does not import torch."""

from typing import Literal

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
Method = Literal["auto", "closed-form", "autograd"]
"""How attention is computed; see `slim.network.gradcam`."""
LoggerName = Literal["tensorboard", "wandb"]
"""What a training is logged to."""
ModelFormat = Literal["timm", "torchvision", "transformers", "onnx", "state-dict"]
"""In which a classifier is exported."""
