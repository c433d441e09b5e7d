"""From the press of a key to the next pair on the screen, in Chromium, with the vote in the store by then.

python tests/benchmarks/rating.py [--answers 100000] [--votes 25] [--store FILE]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import big_store
from browser import CHROMIUM, FINISHED, FLAGS, running_app
from playwright.sync_api import sync_playwright

from feedbackloop import comparisons, queries
from feedbackloop.store import Store

RATER = "Zoe"

WATCH = """
() => {
  const pair = () => document.querySelector('[class*="st-key-pair-"]');
  const name = element => [...element.classList].find(one => one.startsWith('st-key-pair-'));
  window.took = [];
  document.addEventListener('keydown', () => {
    const start = performance.now(), before = name(pair());
    const look = () => {
      const now = pair();
      // Two columns with their texts stand in the page, and have been painted.
      if (now && name(now) !== before && now.querySelectorAll('[data-testid="stText"]').length === 2)
        requestAnimationFrame(() => setTimeout(() => window.took.push(performance.now() - start)));
      else requestAnimationFrame(look);
    };
    look();
  }, true);
}
"""


def measure(store: Store, votes: int) -> list[float]:
    """Milliseconds of each of so many votes, a second apart."""
    task = queries.tasks(store)[0]
    variants = [variant.id for variant in queries.task_variants(store, task)]
    queue = comparisons.open_queue(store, task, variants[:2])
    with (
        tempfile.TemporaryDirectory() as folder,
        running_app(store.path, Path(folder)) as url,
        sync_playwright() as play,
    ):
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{url}/rate?queue={queue.id}&rater={RATER}")
        page.wait_for_selector('[class*="st-key-pair-"], .st-key-rating-go-on')
        if page.locator(".st-key-rating-go-on").count():
            # The store's votes settle it already.
            page.keyboard.press("g")
        page.wait_for_selector('[class*="st-key-pair-"]')
        page.wait_for_selector(FINISHED)
        page.evaluate(WATCH)
        for number in range(votes):
            time.sleep(1.25)
            page.keyboard.press("1" if number % 2 else "2")
            page.wait_for_function("count => window.took.length === count", arg=number + 1, timeout=10_000)
        took: list[float] = page.evaluate("window.took")
        browser.close()
    stored = store.read("SELECT count(*) AS n FROM current_comparisons WHERE queue = ?", [queue.id])["n"].iloc[0]
    assert stored == votes, f"{stored} votes are in the store, not {votes}"
    return took


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--votes", type=int, default=25)
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.store or Path(folder) / "big.duckdb"
        store = Store(path) if path.exists() else big_store.make(path, answers=options.answers)
        took = measure(store, options.votes)
    found = sorted(took)
    print("ms, in order:", " ".join(f"{one:.0f}" for one in took))
    print(
        f"key press to the next pair, {len(took)} votes: median {statistics.median(took):.0f} ms, "
        f"90% under {found[int(0.9 * (len(found) - 1))]:.0f} ms, longest {found[-1]:.0f} ms"
    )


if __name__ == "__main__":
    main()
