"""Systems that people train and ask, one folder each; none of them imports another."""
