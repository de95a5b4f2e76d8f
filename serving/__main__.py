"""`python -m serving --model support_topics@champion`."""

import logging
import os
import sys

from serving.server import main

if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that still load or compute are of use to nobody any more, and would be waited for.
    os._exit(code)
