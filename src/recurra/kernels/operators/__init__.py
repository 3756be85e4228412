"""Layers as operators of torch.library: torch.compile and torch.export record one call and not a loop over time.

`layer` and `layer_training` register the operators when they are imported, `flops` the operators' formulas for torch's
counter of floating-point operations.
"""
