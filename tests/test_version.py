"""The version, and the commit that it runs from."""

import subprocess

from chainrule import version


def test_the_commit_is_that_of_the_package(monkeypatch, tmp_path):
    """Of the checkout that holds the package; none where the package only lies inside of somebody's repository."""
    git = ["git", "-C", str(tmp_path)]
    package = tmp_path / "chainrule"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(version, "PACKAGE", package)
    assert version.commit() is None
    names = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, *names, "commit", "--quiet", "--allow-empty", "-m", "Begin"], check=True)
    assert version.commit() is None
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, *names, "commit", "--quiet", "-m", "Add the package"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert version.commit() == head
    (package / "__init__.py").write_text("changed = True\n")
    assert version.commit() == head + "+"
