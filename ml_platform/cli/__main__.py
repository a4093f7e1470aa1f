"""``python -m ml_platform.cli`` is ``mlp``, for environments without the script."""

from ml_platform.cli.main import main

main()
