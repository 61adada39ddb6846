"""``python -m xdm``."""

from xdm.cli import main

main()
