"""``python -m mmadapters`` is the ``mmadapters`` command."""

from mmadapters.cli.main import main

if __name__ == "__main__":
    main()
