"""The table of docs/models.md.

python tests/zoo measure FILE.json    in an environment with torch: measures every model, each in its own folder
python tests/zoo table FILE.json ...  writes docs/models.md from what was measured, the largest of several
"""

import json
import logging
import sys
import tempfile
import warnings
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[0] = str(TESTS)

from zoo.models import ROWS  # noqa: E402 - found only now
from zoo.page import DOCS, page  # noqa: E402


def measure(target: Path) -> None:
    from zoo.measuring import environment, measure

    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    found = {}
    for name, row in ROWS.items():
        if row.since > environment():
            continue
        with tempfile.TemporaryDirectory() as work:
            try:
                found[name] = measure(row, Path(work))
            except Exception as error:  # noqa: BLE001 - a row that fails is left out, and the rest is not lost by it
                print(f"{name}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)  # noqa: T201
    target.write_text(json.dumps(found, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    if sys.argv[1] == "measure":
        measure(Path(sys.argv[2]))
    else:
        DOCS.write_text(page([json.loads(Path(path).read_text()) for path in sys.argv[2:]]), encoding="utf-8")
