"""What the records of several systems have in common; like them it imports nothing heavy."""

from ..registry import Measure, Option

__all__ = ["AVERAGE", "BITS_PER_CHARACTER", "LOSS", "PERPLEXITY", "UNKNOWN_RATE", "WORDS"]

AVERAGE = Option(
    "--average",
    "Mean of the weights of so many latest evaluations (training.keep_evaluated); 0: the best weights.",
    int,
    default=0,
    least=0,
    loads=True,
)

WORDS = Option("--words", "Show the log-probability of each word too (default: of the line alone).", bool)

LOSS = Measure("loss", "loss", unit="nats per token", best="lowest")
PERPLEXITY = Measure("perplexity", "perplexity", "{:.2f}", "per token", "lowest", "perplexity {:.2f}")
BITS_PER_CHARACTER = Measure("bits_per_character", "bits per character", "{:.4f}", "", "lowest", "{:.3f} bits/char")
UNKNOWN_RATE = Measure("unknown_rate", "unknown tokens", "{:.2%}")
