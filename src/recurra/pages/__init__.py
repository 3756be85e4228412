"""Pages of HTML that hold all they need, so that they open without a network."""
