"""`python -m mqshm` is the command `mqshm`."""

from mqshm.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
