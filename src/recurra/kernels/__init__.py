"""What runs a cell over a sequence: the reference, torch's fused kernels, the CPU engine, and the choice of them."""

from . import torch_fused
from .call import LayerCall, LayerResult, weight_names
from .cpu import run as cpu_engine
from .dispatch import backend, record_backends, run_layer
from .operators import flops, layer, layer_training  # noqa: F401  Importing them registers the operators.

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
