"""How long people wait on their way: what the tests of these journeys measured, each run by itself.

    python tests/benchmarks/journeys.py

Times are of this machine with a headless Chromium; they stand here and not in the tests, which pass on a busy machine too.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

TESTS = Path(__file__).parents[1]
JOURNEYS = (
    ("the demo, from a click on an empty store", "test_home_browser.py::test_the_demo_is_one_click_away", 10),
    (
        "a CSV with two columns of answers, to the first vote",
        "test_home_browser.py::test_a_csv_with_two_columns_of_answers_leads_to_the_first_vote",
        30,
    ),
    (
        "the first two minutes: app started, demo, five votes, results",
        "test_journeys.py::test_the_first_two_minutes",
        120,
    ),
    (
        "a promotion, until two services on one Postgres obey it",
        "test_gateway_postgres.py::test_two_services_obey_a_promotion_and_store_everything",
        5,
    ),
)
"""What, the test that goes there, and the seconds it may take."""


def main() -> None:
    late = False
    for what, test, target_s in JOURNEYS:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            command = (sys.executable, "-m", "pytest", "-q", "-n", "0", str(TESTS / test), f"--junitxml={report}")
            subprocess.run([*command, "-o", "junit_family=xunit1"], capture_output=True, check=False)
            found = next(iter(ET.parse(report).iter("property")), None)
        seconds = None if found is None else float(found.attrib["value"])
        late |= seconds is not None and seconds > target_s
        print(f"{'skipped' if seconds is None else f'{seconds:5.1f} s'}  {what} (target {target_s} s)", flush=True)
    if late:
        raise SystemExit("slower than its target")


if __name__ == "__main__":
    main()
