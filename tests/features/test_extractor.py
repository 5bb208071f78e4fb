import json

import pytest

from mmadapters.errors import ConfigurationError
from mmadapters.features.extractor import ExtractorSpec, fingerprint_changes, fingerprint_of, version_of


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"name": "no name"}, "A modality was named 'no name'"),
        ({"kind": "vidoe"}, "kind='vidoe'. Accepted are 'image', 'video', 'audio'. Did you mean 'video'"),
        ({"pooling": "max"}, "pooling='max'. Accepted are 'auto', 'pooler', 'cls', 'mean'"),
        ({"encoder": None}, "of kind 'video' has no encoder. Give 'efficientnet-lite0'"),
        ({"frames": 0}, "frames=0"),
        ({"frames": 2.5}, "frames=2.5"),
        ({"frame_size": True}, "frame_size=True"),
        ({"batch_size": -1}, "batch_size=-1"),
        ({"clip_seconds": 0.0}, "clip_seconds=0.0"),
        ({"clip_seconds": float("nan")}, "clip_seconds=nan"),
    ],
)
def test_a_spec_that_cannot_be_used(options: dict, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem.replace("(", r"\(")):
        ExtractorSpec(**{"name": "trailer", "kind": "video", "encoder": "a", **options})


def test_a_spec_needs_no_encoder_for_sound_and_no_size_for_frames() -> None:
    assert ExtractorSpec("sound", "audio").encoder is None
    assert ExtractorSpec("trailer", "video", encoder="a", frame_size=None).frames == 32


def test_a_fingerprint_is_the_same_text_for_the_same_parts() -> None:
    one = fingerprint_of({"b": 1, "a": {"y": [1, 2], "x": "é"}}, ["numpy", "no-such-package"])
    assert one == fingerprint_of({"a": {"x": "é", "y": (1, 2)}, "b": 1}, ["no-such-package", "numpy"])
    assert json.loads(one)["versions"] == {"numpy": version_of("numpy"), "no-such-package": "none"}
    assert version_of("numpy").count(".") == 1


def test_what_changed_in_a_fingerprint_is_named() -> None:
    old = json.dumps({"frames": 32, "processor": {"size": 224, "mean": [0.5]}})
    new = json.dumps({"frames": 16, "processor": {"size": 224, "mean": [0.4]}, "pooling": "cls"})
    assert fingerprint_changes(old, old) == []
    assert fingerprint_changes(old, new) == [
        "frames was 32, is now 16",
        "pooling was absent, is now cls",
        "processor.mean was [0.5], is now [0.4]",
    ]
    assert fingerprint_changes("", "abc") == ["the fingerprint was '', is now 'abc'"]
