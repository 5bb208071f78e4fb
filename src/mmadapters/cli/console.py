"""What the verbs have in common: quiet libraries, progress lines and tables."""

from __future__ import annotations

import logging
import sys
import warnings

from mmadapters.console import ERR, OUT, file_size, print_table, printable, step

__all__ = ["ERR", "OUT", "file_size", "prepare_libraries", "print_table", "printable", "step"]


def prepare_libraries(progress: bool, transformers: bool = True) -> bool:
    """Keep the libraries underneath quiet, and return whether progress bars are to be shown.

    Args:
        progress: What the user asked for; bars are never shown where standard error is no terminal.
        transformers: Whether transformers will be used; else it is not loaded.
    """
    shown = progress and sys.stderr.isatty()
    if transformers:
        from huggingface_hub.utils import disable_progress_bars
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        if not shown:
            disable_progress_bars()
    # PEFT 0.21 still asks transformers 5 by the old names.
    warnings.filterwarnings("ignore", message="`(is_)?gradient_checkpointing", category=FutureWarning)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    return shown
