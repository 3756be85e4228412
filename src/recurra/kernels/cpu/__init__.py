"""The fused CPU engine: generated arithmetic of every cell inside hand-written matrix products."""
