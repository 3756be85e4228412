"""Decoding: sampling and search over what a model predicts, one implementation shared by every task."""
