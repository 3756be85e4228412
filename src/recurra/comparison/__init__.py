"""Comparing configurations: several seeds, equal sizes, paired tests, and results tables that begin with a baseline."""
