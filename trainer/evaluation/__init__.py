"""Scores that can be trusted: formulas, naive rivals, calibrated intervals, verdict. numpy only."""
