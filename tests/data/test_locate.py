"""The folder with real data: the explicit one first, then the variable, else none."""

import pytest

from prefsim.data.locate import data_folder


def test_the_explicit_folder_goes_before_the_variable(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.setenv("PREFSIM_DATA", str(tmp_path / "b"))
    assert data_folder(tmp_path / "a") == tmp_path / "a"
    assert data_folder(None) == tmp_path / "b"


def test_paths_become_absolute_and_home_is_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a").mkdir()
    assert data_folder("a") == data_folder("~/a") == tmp_path / "a"


@pytest.mark.parametrize("value", [None, ""])
def test_none_is_named(monkeypatch, value):
    if value is None:
        monkeypatch.delenv("PREFSIM_DATA", raising=False)
    else:
        monkeypatch.setenv("PREFSIM_DATA", value)
    assert data_folder() is None


def test_a_folder_that_does_not_exist(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ValueError, match="data folder must be a folder that exists, got '/no/such'"
    ):
        data_folder("/no/such")
    with pytest.raises(ValueError, match="which is a file"):
        data_folder(tmp_path / "file")
    monkeypatch.setenv("PREFSIM_DATA", "/no/such")
    with pytest.raises(
        ValueError,
        match="environment variable PREFSIM_DATA must be a folder that exists, got '/no/such'",
    ):
        data_folder()
