"""From a cell's step to the C++ of its pointwise arithmetic. Imports no torch: it runs while the package is built."""
