"""From a Procfile's command and the project to a component: reads, fetches, and has componentize-py build."""

import os
import sys
import tempfile
from pathlib import Path

import component
import order
import packages
import project
from wrong import Wrong, say


def main(words):
    root = Path.cwd()
    process = os.environ["GILLIAM_PROCESS"]
    settings = project.settings(root)
    project.check_version(root, settings)
    plan = order.read(words, process, root, settings)
    with tempfile.TemporaryDirectory() as stage:
        stage = Path(stage)
        site = packages.install(root, settings, stage)
        project.copy(root, stage / "app", skip=site.vendored)
        say(plan["says"])
        component.make(stage, plan)
    arguments = plan["arguments"]
    Path(os.environ["GILLIAM_ARGS"]).write_text("".join(f"{word}\n" for word in arguments), encoding="utf-8")


if __name__ == "__main__":
    # Lines of this script and of what it starts come in the order in which they happen.
    sys.stdout.reconfigure(line_buffering=True)
    try:
        main(sys.argv[1:])
    except Wrong as wrong:
        for line in wrong.lines:
            print(line, file=sys.stderr)
        sys.exit(65)
