"""Extended attributes."""

from errno import E2BIG, ENODATA, ENOSPC, EOPNOTSUPP, ERANGE

import pytest

from tests.fs.stage import Stage


@pytest.fixture(autouse=True)
def _file(stage: Stage) -> None:
    stage.write_file("f", b"")


def test_user_attributes_are_kept_with_any_bytes(stage: Stage) -> None:
    stage.now += 1
    stage.setxattr("f", "user.eins", b"\0\xff")
    stage.setxattr("f", "user.\udcfc", b"")
    assert stage.listxattr("f") == sorted(["user.eins", "user.\udcfc"])
    assert stage.getxattr("f", "user.eins") == b"\0\xff"
    assert stage.getxattr("f", "user.\udcfc") == b""
    assert stage.stat("f").ctime == stage.now
    stage.removexattr("f", "user.eins")
    assert stage.listxattr("f") == ["user.\udcfc"]


def test_an_attribute_that_is_not_there_is_no_data(stage: Stage) -> None:
    with stage.refuses(ENODATA):
        stage.getxattr("f", "user.none")
    with stage.refuses(ENODATA):
        stage.removexattr("f", "user.none")


@pytest.mark.parametrize(
    "name",
    [
        "system.posix_acl_access",
        "system.posix_acl_default",
        "security.capability",
        "security.selinux",
        "trusted.overlay",
        "user.",
        "nothing",
    ],
)
def test_what_belongs_to_one_machine_is_not_supported(stage: Stage, name: str) -> None:
    for call in (
        lambda: stage.setxattr("f", name, b"x"),
        lambda: stage.getxattr("f", name),
        lambda: stage.removexattr("f", name),
    ):
        with stage.refuses(EOPNOTSUPP):
            call()


def test_a_value_may_have_64_kib(stage: Stage) -> None:
    stage.setxattr("f", "user.big", b"x" * 65536)
    with stage.refuses(E2BIG):
        stage.setxattr("f", "user.big", b"x" * 65537)


def test_a_name_may_have_255_bytes(stage: Stage) -> None:
    stage.setxattr("f", "user." + "n" * 250, b"")
    with stage.refuses(ERANGE):
        stage.setxattr("f", "user." + "n" * 251, b"")


def test_a_file_may_have_1_mib_of_them(stage: Stage) -> None:
    for number in range(15):
        stage.setxattr("f", f"user.{number:02}", b"x" * 65536)
    with stage.refuses(ENOSPC):
        stage.setxattr("f", "user.15", b"x" * 65536)
    stage.setxattr("f", "user.00", b"y" * 65536)
    stage.removexattr("f", "user.00")
    stage.setxattr("f", "user.15", b"x" * 65536)


def test_names_may_not_be_more_than_a_list_can_tell(stage: Stage) -> None:
    for number in range(256):
        stage.setxattr("f", f"user.{number:0250}", b"")
    with stage.refuses(ENOSPC):
        stage.setxattr("f", "user.more", b"")
    assert sum(len(name) + 1 for name in stage.listxattr("f")) == 65536
