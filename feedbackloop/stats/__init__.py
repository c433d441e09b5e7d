"""Statistics as pure functions of arrays: rankings from comparisons, intervals, confidence sequences, planning. Knows no record."""
