"""Chips and topologies by name, their errors, and their descriptions for compilers."""

import importlib.util

import pytest

from ugs_jax.planning.hardware import HARDWARE, parse_topology, target_config, topology_devices


@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="needs the extra tpu")
def test_a_layout_that_does_not_exist_is_refused_with_one_that_does(monkeypatch):
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    with pytest.raises(ValueError, match=r"v5e:3x5: .*not divisible.*; a layout that exists is v5e:4x4"):
        topology_devices(parse_topology("v5e:3x5"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v5ee:2x2", "no figures for a chip 'v5ee'; did you mean 'v5e'"),
        ("abacus:1", "known are v4, v5e, v5p, v6e, a100, h100, h200"),
        ("v5e", "expected a layout, as in v5e:4x4, got ''"),
        ("v5litepod-100", "expected an accelerator type that exists, got 100 chips; or give a layout, as in v5e:4x4"),
        ("v5p-7", "expected an accelerator type that exists, got 7 cores"),
        ("v5p:2x0x1", "expected a layout, as in v5p:2x2x1, got '2x0x1'"),
    ],
)
def test_a_misspelt_topology_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        parse_topology(name)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("v5litepod-256", "v5e:16x16"),
        ("v5litepod-8", "v5e:2x4"),
        ("v6e-64", "v6e:8x8"),
        ("v5p-8", "v5p:2x2x1"),
        ("v5p-128", "v5p:4x4x4"),
        ("v4-32", "v4:2x2x4"),
    ],
)
def test_accelerator_types_of_google_cloud_are_understood(name, layout):
    """Layouts as docs.cloud.google.com/tpu/docs lists them for v5e, v6e, v5p and v4."""
    assert parse_topology(name) == parse_topology(layout)


@pytest.mark.parametrize(("name", "extra"), [("v6e:8x8", "tpu"), ("h200:8", "cuda12")])
def test_without_the_compiler_the_error_names_the_extra(name, extra, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=rf'not installed .*pip install "\.\[{extra}\]"'):
        topology_devices(parse_topology(name))


def test_a_gpu_is_described_to_its_compiler():
    text = target_config(HARDWARE["h200"])
    assert "core_count: 132" in text
    assert "device_memory_size: 151397597184" in text
    assert "major: 9 }" in text
    assert text.count("{") == text.count("}")
