"""The `recurra` command, also as `python -m recurra`."""

from .training.interrupts import dying_of_interrupts

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code."""
    with dying_of_interrupts():
        from .cli.main import main as run
    run()


if __name__ == "__main__":
    main()
