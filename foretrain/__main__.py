"""`python -m foretrain` is the command line."""

from foretrain.cli import app

app()
