"""A daemon's settings: what the file says, what flags override, and what is wrong with a wrong file."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmd.daemon.config import Config, load
from swarmd.daemon.main import _effective
from swarmd.model.errors import Invalid


def a_file(tmp_path: Path, data: str | bytes) -> Path:
    path = tmp_path / "swarmd.toml"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_without_a_file_everything_has_its_place() -> None:
    config = load(None)
    assert (config.data, config.run) == (Path("/var/lib/swarmd"), Path("/run/swarmd"))
    assert config.socket == Path("/run/swarmd/swarmd.sock")


def test_a_file_sets_what_it_names(tmp_path: Path) -> None:
    path = a_file(tmp_path, 'data_dir = "/srv/swarm"\nlog_level = "debug"\n[labels]\ndisk = "ssd"\n')
    assert load(path) == Config(data_dir="/srv/swarm", log_level="debug", labels={"disk": "ssd"})


def test_the_sample_that_is_installed_can_be_read() -> None:
    assert load(Path("deploy/swarmd.toml")) == Config()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ('data_dri = "/srv"', ("unknown field", "data_dri")),
        ("data_dir = 5", ("str", "int", "data_dir")),
        ('log_level = "loud"', ("loud", "log_level")),
        ("[labels]\ndisk = 5", ("str", "int", "labels")),
        ("data_dir = ", ("not valid TOML", "Invalid value")),
        (b"\xff\xfe", ("not valid TOML",)),
    ],
)
def test_what_is_wrong_is_named_with_its_file(
    tmp_path: Path, data: str | bytes, words: tuple[str, ...]
) -> None:
    path = a_file(tmp_path, data)
    with pytest.raises(Invalid) as caught:
        load(path)
    assert [word for word in (str(path), *words) if word not in str(caught.value)] == []


def test_a_file_that_is_not_there_or_no_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"nosuch\.toml does not exist"):
        load(tmp_path / "nosuch.toml")
    with pytest.raises(Invalid, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_flags_come_before_the_file_and_labels_are_added(tmp_path: Path) -> None:
    path = a_file(tmp_path, 'data_dir = "/a"\nrun_dir = "/b"\n[labels]\ndisk = "ssd"\nzone = "a"\n')
    config = _effective(path, {"data_dir": "/c", "run_dir": None}, ("zone=b", "gpu"))
    assert (config.data_dir, config.run_dir) == ("/c", "/b")
    assert config.labels == {"disk": "ssd", "zone": "b", "gpu": ""}


def test_the_users_of_containers_are_a_range_of_the_machines() -> None:
    assert Config().remap == (0, 0)
    assert Config(userns_remap="200000:65536").remap == (200_000, 65_536)
    for text in ("200000", "0:65536", "200000:100", "a:b", "4294967000:65536"):
        with pytest.raises(Invalid, match="userns_remap"):
            _ = Config(userns_remap=text).remap
