import sys

from jaxzero.cli import main

sys.exit(main())
