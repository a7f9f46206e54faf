"""`python -m keylatch`: a demonstration and measurements."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import __version__, _bench, _demo


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that is named. Returns the status to exit with."""
    parser = argparse.ArgumentParser(
        prog="python -m keylatch",
        description="keylatch: who may touch this object now?",
        epilog="python -m keylatch COMMAND --help tells the options of each.",
    )
    parser.add_argument("--version", action="version", version=f"keylatch {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (_demo, _bench):
        command = commands.add_parser(module.NAME, help=module.HELP, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    chosen = parser.parse_args(arguments)
    status: int = chosen.run(chosen)
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped")
