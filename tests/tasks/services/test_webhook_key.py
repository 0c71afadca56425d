"""The key that MLflow's server keeps secrets by: made once, kept, and for its user alone."""

import stat

from cryptography.fernet import Fernet

from tasks.services.notes import folder_of
from tasks.services.webhook_key import VARIABLE, key_environment, webhook_key
from tasks.workspace.paths import Paths


def test_it_is_made_once_and_fits_what_mlflow_encrypts_with(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    paths = Paths(tmp_path)
    key = webhook_key(paths)
    assert webhook_key(paths) == key and key_environment(paths) == {VARIABLE: key}
    assert Fernet(key).decrypt(Fernet(key).encrypt(b"secret")) == b"secret"
    (file,) = folder_of(paths).iterdir()
    assert file.name == "webhook.key" and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert webhook_key(Paths(tmp_path / "another")) != key


def test_one_that_a_full_disk_left_empty_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    folder_of(Paths(tmp_path)).mkdir(parents=True)
    (folder_of(Paths(tmp_path)) / "webhook.key").touch()
    key = webhook_key(Paths(tmp_path))
    assert len(key) == 44 and webhook_key(Paths(tmp_path)) == key


def test_the_environment_goes_before(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "theirs")
    assert webhook_key(Paths(tmp_path)) == "theirs" and not folder_of(Paths(tmp_path)).exists()
