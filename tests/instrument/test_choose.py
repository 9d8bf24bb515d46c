"""Whose code is the user's own."""

from __future__ import annotations

import colorsys
from pathlib import Path

import afterglow
from afterglow.instrument.choose import Chooser


def test_what_lies_under_the_roots_is_the_users(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "pyvenv.cfg").touch()
    chooser = Chooser([str(tmp_path)])
    assert chooser.traced("app", str(tmp_path / "app.py"))
    assert chooser.traced("pack.mod", str(tmp_path / "src" / "pack" / "mod.py"))
    assert not chooser.traced("x", str(tmp_path / "env" / "x.py"))
    assert not chooser.traced("x", str(tmp_path / "lib" / "site-packages" / "x.py"))
    assert not chooser.traced("x", str(tmp_path.parent / "elsewhere" / "x.py"))
    assert not chooser.traced("colorsys", colorsys.__file__)
    assert chooser.traced("colorsys", colorsys.__file__, named=True)


def test_a_project_may_lie_in_its_environments_folder(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").touch()
    chooser = Chooser([str(tmp_path), str(tmp_path / "bin")])
    assert chooser.traced("app", str(tmp_path / "src" / "app.py"))
    assert not chooser.traced("tool", str(tmp_path / "bin" / "tool"))
    assert not chooser.traced("x", str(tmp_path / "lib" / "python3" / "x.py"))


def test_the_root_of_all_has_no_library(tmp_path: Path) -> None:
    chooser = Chooser(["/"])
    assert chooser.traced("app", str(tmp_path / "app.py"))
    assert not chooser.traced("colorsys", colorsys.__file__)


def test_globs_of_modules_and_paths(tmp_path: Path) -> None:
    path = str(tmp_path / "src" / "pack" / "mod.py")
    root = str(tmp_path)
    for glob in ("pack*", "pack", "pack.mod", "src/pack", "src/*/mod.py", path, root + "/src"):
        assert not Chooser([root], exclude=[glob]).traced("pack.mod", path), glob
        assert Chooser([], include=[glob] if glob[0] == "p" else [path]).traced("pack.mod", path)
    assert Chooser([root], exclude=["pac", "packs*", "src/other"]).traced("pack.mod", path)
    assert not Chooser([root], ["pack*"], ["pack.mod"]).traced("pack.mod", path)


def test_never_ours() -> None:
    own = str(Path(afterglow.__file__).parent / "record" / "hot.py")
    assert not Chooser(["/"], include=["*"]).traced("afterglow.record.hot", own, named=True)
