"""What is said where a package that reads media is not installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from media_files import write_clip
from PIL import Image

from mmadapters.errors import MissingDependencyError
from mmadapters.features.audio import decode_audio
from mmadapters.features.image import decode_image
from mmadapters.features.outcome import Decoded
from mmadapters.features.video import decode_video


@pytest.mark.parametrize(
    ("package", "decode", "name", "extra"),
    [
        ("PIL", decode_image, "x.png", r"mmadapters\[image\]"),
        ("av", decode_video, "x.mp4", r"mmadapters\[video\]"),
        ("soundfile", lambda path: decode_audio(path, 8000), "x.wav", r"mmadapters\[audio\]"),
        ("soxr", lambda path: decode_audio(path, 8000), "x.wav", r"mmadapters\[audio\]"),
    ],
)
def test_the_extra_to_install_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    decode: Callable[[Path], Decoded],
    name: str,
    extra: str,
) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    write_clip(tmp_path / "x.mp4", [40])
    soundfile.write(tmp_path / "x.wav", np.zeros(10), 8000)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=extra):
        decode(tmp_path / name)
