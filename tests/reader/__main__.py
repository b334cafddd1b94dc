"""A second reader of the formats, written from docs/protocol.md alone. For tests.

    python tests/reader vectors protocol/vectors      checks every vector
    python tests/reader export FILE... [--root KEY]   verifies exports and recomputes their settlement; a line of JSON each

The exit status is 1 where something differs or is refused; the first thing that does is named.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from export import Export  # noqa: E402
from primitives import Refused  # noqa: E402
from vectors import Differs, check  # noqa: E402


def main(arguments):
    if arguments[:1] == ["vectors"] and len(arguments) == 2:
        try:
            check(arguments[1])
        except Differs as error:
            print(error, file=sys.stderr)
            return 1
        return 0
    if arguments[:1] == ["export"]:
        root = None
        if "--root" in arguments:
            at = arguments.index("--root")
            root = bytes.fromhex(arguments[at + 1])
            del arguments[at : at + 2]
        status = 0
        for path in arguments[1:]:
            try:
                result = Export(Path(path).read_bytes(), root).settle()
            except Refused as error:
                result, status = {"refused": str(error)}, 1
            print(json.dumps({"file": path} | result), flush=True)
        return status
    print(__doc__, file=sys.stderr)
    return 2


sys.exit(main(sys.argv[1:]))
