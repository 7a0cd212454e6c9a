"""Print every skipped test and fail on one that is not in the committed list."""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def main() -> int:
    """Compare the skips in a junit file with the allowed ones, a line each, and allowed modules."""
    report, allowed_path, *modules = sys.argv[1:]
    lines = Path(allowed_path).read_text().splitlines()
    allowed = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    skipped = {
        f"{case.get('classname')}::{case.get('name')}"
        for case in ElementTree.parse(report).iter("testcase")
        if case.find("skipped") is not None
    }
    allowed |= {name for name in skipped if name.partition("::")[0] in modules}
    for name in sorted(skipped):
        print(f"skipped: {name}{'' if name in allowed else '  (not allowed)'}")
    print(f"{len(skipped)} skipped, {len(skipped - allowed)} of them not allowed")
    return 1 if skipped - allowed else 0


if __name__ == "__main__":
    sys.exit(main())
