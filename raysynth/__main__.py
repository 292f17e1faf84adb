"""`python -m raysynth`."""

from raysynth.cli import main

main()
