"""`python -m qprompt_edge`."""

from qprompt_edge.cli import main

main()
