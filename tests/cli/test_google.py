"""Who asks Google: whose credentials these are, and what is made of them."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mailmirror_cli.google import Absent, Google
from tests.cli import healthy as h
from tests.cli.conftest import Serve, SignIn


def test_a_person(serving: Serve, operator: SignIn) -> None:
    """A person's credentials do not say whose they are, Google does."""
    root = serving(h.healthy())
    operator(root)
    assert Google("my-project", root).operator == "user:ops@example.com"


def test_a_service_account(serving: Serve, nobody: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service account's key says whose it is."""
    root = serving(h.healthy())
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key = {
        "type": "service_account",
        "client_email": "robot@my-project.iam.gserviceaccount.com",
        "private_key": rsa.generate_private_key(public_exponent=65_537, key_size=2_048).private_bytes(*kinds).decode(),
        "token_uri": f"{root}/oauth2.googleapis.com/token",
    }
    (tmp_path / "key.json").write_text(json.dumps(key))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    assert Google("my-project", root).operator == "serviceAccount:robot@my-project.iam.gserviceaccount.com"


def test_what_is_not_there_is_told_again(serving: Serve, operator: SignIn) -> None:
    """A refusal is remembered as an answer is."""
    cloud = h.healthy()
    root = serving(cloud)
    operator(root)
    google = Google("my-project", root)
    for _ in range(2):
        with pytest.raises(Absent):
            google.get("pubsub", "v1/projects/my-project/topics/none", role="")
    assert [each.address for each in cloud.asked].count(f"{h.PUBSUB}/topics/none") == 1
