"""SQLAlchemy's own suite for dialects: ``python -m tests.surfaces.sqlalchemy_suite [-k EXPRESSION] [--markdown]``.

`tests.surfaces.sqlalchemy_requirements` says what it may ask for, and `KNOWN` which of its tests fail, and why. Anything
else that fails makes the exit status 1. The whole takes some four minutes on a quiet machine.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]

_NAMES = "DuckDB forgets the names that constraints were given, and the suite compares or sorts by them"
_LENGTHS = "DuckDB keeps no lengths: VARCHAR(52) is VARCHAR, CHAR too"
_DOUBLE = "DuckDB divides decimals as DOUBLE"
KNOWN = {
    r"ComponentReflectionTest\.test_get_multi_": _NAMES,
    r"ComponentReflectionTest\.test_get_.*_quoted_name": _NAMES,
    r"ComponentReflectionTest\.test_get_temp_table_unique_constraints": _NAMES,
    r"ComponentReflectionTest\.test_get_unique_constraints": _NAMES,
    r"LongNameBlowoutTest\.": _NAMES,
    r"ComponentReflectionTestExtra\.test_string_length_reflection": _LENGTHS,
    r"ComponentReflectionTest\.test_reflect_table_temp_table": _LENGTHS,
    r"CTETest\.": "DuckDB can't delete rows that refer to each other in one statement, which the suite does between tests",
    r"IsolationLevelTest\.test_dialect_user_setting_is_restored": "wants two levels besides AUTOCOMMIT; there is one",
    r"TrueDivTest\.": _DOUBLE,
    r"WindowFunctionTest\.test_window_range": "the suite expects the order of the window without an ORDER BY",
}
"""Pattern of tests that fail -> why."""


@dataclass(frozen=True)
class Result:
    """One test of the suite. outcome: passed, failed, error or skipped."""

    name: str
    outcome: str
    message: str

    @property
    def known(self) -> str | None:
        """Why it is known to fail."""
        return next((why for pattern, why in KNOWN.items() if re.match(pattern, self.name)), None)


def run(expression: str | None = None) -> list[Result]:
    """Run the suite, or the tests that a pytest expression selects, in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "setup.cfg").write_text(
            "[sqla_testing]\nrequirement_cls=tests.surfaces.sqlalchemy_requirements:Requirements\n"
            f"profile_file={folder / 'profiles.txt'}\n"
        )
        make = f"import aidb; aidb.connect({str(folder / 's.aidb')!r}).execute('CREATE SCHEMA test_schema')"
        subprocess.run([sys.executable, "-c", make], cwd=ROOT, check=True)
        # In a thread, since queries of the main thread are run by another one, so that Ctrl-C is heeded.
        start = (
            "import sys, threading, pytest; sys.path.insert(0, '.'); "
            "threading.Thread(target=lambda: pytest.main(sys.argv[1:])).start()"
        )
        report = folder / "report.xml"
        arguments = [
            str(ROOT / "tests" / "surfaces" / "sqlalchemy_cases.py"), "-c", str(folder / "setup.cfg"), "--rootdir", place,
            "-p", "sqlalchemy.testing.plugin.pytestplugin", "-p", "no:cacheprovider", "--noconftest",
            "--dburi", f"aidb:///{folder / 's.aidb'}", f"--junitxml={report}", "-q", "--tb=line", "-W", "ignore",
        ]  # fmt: skip
        if expression:
            arguments += ["-k", expression]
        done = subprocess.run(
            [sys.executable, "-c", start, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if not report.exists():
            raise RuntimeError(done.stdout[-4000:] + done.stderr[-4000:])
        return [_result(case) for case in ElementTree.parse(report).iter("testcase")]


def _result(case: ElementTree.Element) -> Result:
    group = re.sub(r"_aidb.*", "", case.get("classname", "").rpartition(".")[2])
    for outcome in ("error", "failure", "skipped"):
        found = case.find(outcome)
        if found is not None:
            shown = (found.get("message") or "").split("\n")[0]
            return Result(f"{group}.{case.get('name')}", "failed" if outcome == "failure" else outcome, shown)
    return Result(f"{group}.{case.get('name')}", "passed", "")


def unknown(results: list[Result]) -> list[Result]:
    """Tests that fail without a reason in `KNOWN`."""
    return [r for r in results if r.outcome in ("failed", "error") and r.known is None]


def main() -> int:
    """Print figures and reasons."""
    expression = sys.argv[sys.argv.index("-k") + 1] if "-k" in sys.argv else None
    results = run(expression)
    counted = Counter(r.outcome for r in results)
    print(f"{len(results)} tests: {', '.join(f'{n} {outcome}' for outcome, n in sorted(counted.items()))}")
    reflection = [r for r in results if "Reflect" in r.name]
    wrong = Counter(r.outcome for r in reflection)
    print(f"of them {len(reflection)} about reflection: {', '.join(f'{n} {o}' for o, n in sorted(wrong.items()))}")
    print("\nfailed, and why:")
    reasons = Counter(r.known for r in results if r.outcome in ("failed", "error") and r.known)
    for why, n in reasons.most_common():
        print(f"{n:5}  {why}")
    print("\nskipped, and why:")
    skipped = Counter(re.sub(r"^\S+ : |_aidb\S*", "", r.message)[:100] for r in results if r.outcome == "skipped")
    for why, n in skipped.most_common():
        print(f"{n:5}  {why}")
    rest = unknown(results)
    for result in rest:
        print(f"\nUNEXPECTED {result.name}: {result.message[:300]}")
    return 1 if rest else 0


if __name__ == "__main__":
    sys.exit(main())
