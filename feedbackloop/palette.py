"""Colours that tell things apart for every eye, on light and on dark."""

from __future__ import annotations

COLOURS = ("#0072B2", "#DD6B00", "#1BA786", "#CB73A5", "#8A5A1C", "#4A97E4", "#C8283F", "#76808C")
"""Okabe and Ito's set (2008), moved so that each stands out from white and from #10171E by 3 to 1 (WCAG 1.4.11)."""

BLUE, ORANGE, GREEN, PINK, BROWN, SKY, RED, GREY = COLOURS
