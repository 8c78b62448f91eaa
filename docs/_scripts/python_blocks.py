"""Runs the Python that it reads, a JSON ``{"name", "text"}`` a line, in one namespace; answers null or a traceback."""

import json
import os
import sys
import traceback
from typing import Any

# What the blocks print goes to the same place as the errors; answers go where this process was asked from.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
sys.path.insert(0, os.getcwd())
namespace: dict[str, Any] = {"__name__": "__main__"}

for line in sys.stdin:
    block = json.loads(line)
    try:
        exec(compile(block["text"], block["name"], "exec"), namespace)
        error = None
    except BaseException:
        error = traceback.format_exc()
    sys.stdout.flush()
    print(json.dumps(error), file=answers, flush=True)
