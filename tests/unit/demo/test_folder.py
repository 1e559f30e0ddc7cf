from pathlib import Path

import pytest

from services.demo import folder


def test_new_folder_is_created_with_its_parents(tmp_path: Path) -> None:
    with folder.claim(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()


def test_files_of_an_earlier_demo_are_deleted(tmp_path: Path) -> None:
    claimed = tmp_path / "demo"
    with folder.claim(claimed):
        (claimed / "kafka").mkdir()
        (claimed / "kafka" / "log").write_text("old")
        (claimed / "registry.db").write_text("old")
        (claimed / "elsewhere").symlink_to(tmp_path)
    with folder.claim(claimed):
        assert [path.name for path in claimed.iterdir()] == [folder.MARKER]
    assert tmp_path.is_dir()


def test_other_data_is_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with (
        pytest.raises(folder.FolderError, match="contains data that no demo created"),
        folder.claim(tmp_path),
    ):
        pass
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    with folder.claim(home), pytest.raises(folder.FolderError, match="another demo uses"), folder.claim(home):
        pass
    with folder.claim(tmp_path / "demo"):
        pass
