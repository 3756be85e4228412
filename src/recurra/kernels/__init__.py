"""What runs a cell over a sequence: the reference loop, torch's fused kernels, and the seam between them."""

from . import torch_fused
from .call import LayerCall, LayerResult, weight_names
from .cpu import run as cpu_engine
from .dispatch import backend, record_backends
from .ops import run_layer

__all__ = [
    "LayerCall",
    "LayerResult",
    "backend",
    "cpu_engine",
    "record_backends",
    "run_layer",
    "torch_fused",
    "weight_names",
]
