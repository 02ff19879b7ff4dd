"""Does something again and again, until it is stopped."""

import itertools
import os
import sys
import time

PAUSE = float(os.environ.get("PAUSE", "1"))

print("worker begins with", sys.argv[1:])
for number in itertools.count(1):
    print("tick", number)
    time.sleep(PAUSE)
