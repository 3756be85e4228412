"""What can be measured of recurrent layers: how gradients flow through them, and what follows from it."""
