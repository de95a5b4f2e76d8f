"""`python -m serving --model support_topics@champion`."""

import sys

from serving.server import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
