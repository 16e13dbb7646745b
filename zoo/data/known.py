"""What is known of public corpora without reading them."""

# Data set -> vocabulary size, training tokens.
KNOWN_SIZES = {"ptb": (10_000, 929_589)}
