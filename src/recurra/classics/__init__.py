"""Classic experiments with recurrent networks, as their papers describe them."""
