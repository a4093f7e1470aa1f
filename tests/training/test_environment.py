from __future__ import annotations

import numpy as np

from ml_platform.training.absent import Absent
from ml_platform.training.environment import capture

IMAGE = "registry/credit@sha256:" + "a" * 64


def test_installed_packages_are_named_with_their_versions():
    packages = capture(threads=1).packages
    assert packages["numpy"] == np.__version__
    assert list(packages) == sorted(packages)
    assert all("_" not in name and name == name.lower() for name in packages)


def test_an_image_has_a_digest_or_its_absence_a_reason():
    assert capture(threads=1, image_digest=IMAGE).image == IMAGE
    assert isinstance(capture(threads=1).image, Absent)
    assert isinstance(capture(threads=1, image_digest="credit:latest").image, Absent)


def test_hardware_is_read_or_said_to_be_absent(tmp_path):
    empty = capture(threads=3, proc=tmp_path)
    assert isinstance(empty.gpu, Absent)
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Example 9000\nmodel name\t: Example 9000\n")
    for number in ("0000:01", "0000:02"):
        folder = tmp_path / "driver" / "nvidia" / "gpus" / number
        folder.mkdir(parents=True)
        (folder / "information").write_text("Model: \t\t Accelerator 40\nIRQ: 1\n")
    found = capture(threads=3, proc=tmp_path)
    assert (found.cpu, found.gpu, found.threads) == ("Example 9000", ("Accelerator 40", "Accelerator 40"), 3)
    assert found.to_json()["hardware"] == {
        "cpu": "Example 9000",
        "gpu": ["Accelerator 40", "Accelerator 40"],
        "threads": 3,
    }
    assert set(found.to_json()) == {"packages", "runtime", "image", "hardware"}
