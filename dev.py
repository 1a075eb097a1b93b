"""One tool for newcomers and for CI: demo, ui, test, run, setup. Standard library only; any system.

python dev.py demo [--image P] [--audio A] [--out F]     a talking video through ComfyUI's own HTTP API
python dev.py ui                                         ComfyUI with this pack, until Ctrl-C
python dev.py test [pytest arguments]                    ruff, then pytest
python dev.py run -m talkstream.benchmarks.import_time   a Python command in the same environment
python dev.py setup                                      only the set-up that all of these share
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 10):  # noqa: UP036  (an older Python must get a sentence)
    sys.exit(f"TalkStream needs Python 3.10 or newer; this is {sys.version.split()[0]}")

from devtools.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
