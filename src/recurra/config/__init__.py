"""Configurations: the sections that systems share, and how a tree of sections is read and checked."""
