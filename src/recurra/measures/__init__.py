"""How good answers are: the numbers that people see, and how they are counted."""
