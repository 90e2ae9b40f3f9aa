"""One shard of a scan in a process of its own, for engines that start it on any machine: what to do comes as JSON."""

import json
import sys
from pathlib import Path

from auditor.cli.scale.shard import make_share
from auditor.cli.unfinished import unfinished_folder
from auditor.option_rules import options_from
from auditor.options import ScanOptions
from auditor.output_options import WorkOptions


def main() -> None:
    """Make the shard that standard input describes."""
    told = json.load(sys.stdin)
    options = options_from(ScanOptions, told["options"], command=())
    index, count = told["shard"]
    work = WorkOptions(jobs=1 if options.device in ("auto", "cpu") and told["copies"] else None, shard=(index, count))
    make_share(options, work, unfinished_folder([], Path(told["out"])), quiet=True)


if __name__ == "__main__":
    main()
