"""Fixtures for tests of whatever speaks iSCSI. pytest finds them when lunette is installed.

- `iscsi_target`: a target with one disk of 64 MiB in memory, fresh for each test.
- `iscsi_disk`: a `lunette.Disk` that is connected to it.
- `make_iscsi_target`: makes targets with other arguments and closes them after the test.

`@pytest.mark.iscsi(16 << 20, name="iqn...")` gives the arguments of `lunette.Target` for the first two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import lunette

#: Bytes of the disk unless the mark says otherwise.
DEFAULT_SIZE = 64 << 20


def pytest_configure(config: pytest.Config) -> None:
    """Makes the mark known."""
    config.addinivalue_line("markers", "iscsi(*disks, **options): the arguments of lunette.Target for iscsi_target")


@pytest.fixture
def make_iscsi_target() -> Iterator[Callable[..., lunette.Target]]:
    """Makes targets: the arguments are those of `lunette.Target`. They are closed after the test."""
    import lunette

    made: list[lunette.Target] = []

    def make(*disks: object, **options: object) -> lunette.Target:
        target = lunette.Target(*disks or (DEFAULT_SIZE,), **options)  # type: ignore[arg-type]
        made.append(target)
        return target

    yield make
    for target in reversed(made):
        target.close()


@pytest.fixture
def iscsi_target(
    request: pytest.FixtureRequest, make_iscsi_target: Callable[..., lunette.Target]
) -> lunette.Target:
    """A target with one disk in memory, or as `@pytest.mark.iscsi` says."""
    mark = request.node.get_closest_marker("iscsi")
    return make_iscsi_target(*mark.args, **mark.kwargs) if mark else make_iscsi_target()


@pytest.fixture
def iscsi_disk(iscsi_target: lunette.Target) -> Iterator[lunette.Disk]:
    """A disk that is connected to `iscsi_target`."""
    import lunette

    with lunette.Disk(iscsi_target.url) as disk:
        # What connecting took is no business of the test.
        iscsi_target.clear_trace()
        yield disk
