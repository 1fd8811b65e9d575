"""The fixtures that pytest finds when the package is installed."""

import lunette
import pytest


NAME = "iqn.2026-11.org.example:of-the-mark"


def test_the_fixtures_are_a_target_and_a_disk_of_it(iscsi_target, iscsi_disk):
    assert iscsi_disk.size == 64 << 20
    assert iscsi_target.trace == [], "what connecting took is no business of the test"
    iscsi_disk.write(0, bytes(512))
    assert [command.name for command in iscsi_target.trace] == ["WRITE(10)"]


@pytest.mark.iscsi(1 << 20, lunette.Lun(2 << 20, block_size=4096), name=NAME)
def test_a_mark_gives_the_arguments(iscsi_target, iscsi_disk):
    assert iscsi_target.name == NAME and len(iscsi_target.units) == 2
    assert iscsi_disk.size == 1 << 20


def test_more_targets_are_made_and_closed_after_the_test(pytester):
    pytester.makepyfile("""
        made = []

        def test_makes(make_iscsi_target):
            made.append(make_iscsi_target(1 << 20))
            made.append(make_iscsi_target())
            assert not any(target.closed for target in made)

        def test_closed():
            assert len(made) == 2 and all(target.closed for target in made)
    """)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)
