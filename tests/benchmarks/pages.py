"""How soon each page of the app stands in the browser, on a store of 100,000 and of 1,000,000 answers.

    python tests/benchmarks/pages.py [--answers 100000 1000000] [--rounds 3] [--folder DIR]

A page is opened anew in Chromium, by its address, in a server that has imported everything but remembers nothing of the store.
Prints the time to the first thing of the page's own, and to its end. Targets for the first: 1.5 s at 100,000 answers, 3 s at
1,000,000.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import big_store  # noqa: E402
from browser import CHROMIUM, FINISHED, FLAGS, running_app  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

PAGES = ("home", "runs", "compare", "rate", "results", "trends")


def opened(profile, url: str) -> tuple[float, float]:
    """Seconds to the page's title, and to the end of its script."""
    page = profile.new_page()
    try:
        began = time.perf_counter()
        page.goto(url, wait_until="commit")
        page.wait_for_selector("[data-testid=stMain] h1", timeout=60_000)
        first = time.perf_counter() - began
        page.wait_for_selector(FINISHED, timeout=60_000)
        page.wait_for_timeout(50)
        page.wait_for_selector(FINISHED, timeout=60_000)
        return first, time.perf_counter() - began
    finally:
        page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name, sync_playwright() as playwright:
        folder = Path(name)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        # One profile: Streamlit's own scripts come from the browser's cache, as for anyone who was here before.
        profile = browser.new_context(viewport={"width": 1280, "height": 900})
        for answers in options.answers:
            store = folder / f"{answers}.duckdb"
            big_store.make(store, answers=answers, variants=5, runs=5, comparisons=answers // 10)
            with running_app(store, folder) as url:
                opened(profile, url)  # imports everything
                print(f"\n{answers:,} answers    title      whole page (medians of {options.rounds})", flush=True)
                for page in PAGES:
                    times = []
                    for _ in range(options.rounds):
                        # A new version of the file: nothing is remembered of the store.
                        os.utime(store)
                        times.append(opened(profile, f"{url}/{'' if page == 'home' else page}"))
                    first, whole = (statistics.median(part) for part in zip(*times, strict=True))
                    print(f"{page:12}    {first:6.2f} s   {whole:6.2f} s", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
