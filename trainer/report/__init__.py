"""The report of one training run: a single HTML file that opens without a network."""
