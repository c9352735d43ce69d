"""Modules of a user's own are found, or the sentence says where they were looked for."""

import sys

import pytest

from savi.errors import InputError
from savi.plugins import import_modules


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


def test_a_module_of_the_current_folder_is_found(tmp_path):
    (tmp_path / "savi_test_module.py").write_text("VALUE = 3\n")
    import_modules(["savi_test_module"])
    assert sys.modules["savi_test_module"].VALUE == 3


def test_one_that_is_not_there_is_told_with_the_places(tmp_path):
    with pytest.raises(InputError, match=f"no module 'savi_test_none' in {tmp_path} or on"):
        import_modules(["savi_test_none"])
    with pytest.raises(InputError, match="name the module, savi_test_none, not its file"):
        import_modules(["savi_test_none.py"])


def test_one_that_fails_is_told_with_its_error(tmp_path):
    (tmp_path / "savi_test_failing.py").write_text("import savi_test_other\n")
    with pytest.raises(InputError, match="'savi_test_failing' fails with ModuleNotFoundError"):
        import_modules(["savi_test_failing"])
    (tmp_path / "savi_test_wrong.py").write_text("1 / 0\n")
    with pytest.raises(InputError, match="'savi_test_wrong' fails with ZeroDivisionError"):
        import_modules(["savi_test_wrong"])


def test_installed_packages_offer_theirs_without_being_asked(tmp_path, monkeypatch):
    (tmp_path / "savi_test_plugin.py").write_text("VALUE = 4\n")
    metadata = tmp_path / "savi_test_plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: savi_test_plugin\n")
    (metadata / "entry_points.txt").write_text("[savi.plugins]\nmine = savi_test_plugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import_modules(())
    assert sys.modules["savi_test_plugin"].VALUE == 4
