"""Gated multimodal adapters inside a frozen text encoder, as a PEFT method.

Importing anything of this package registers the method with PEFT.
"""

import mmadapters.adapters.register  # noqa: F401
