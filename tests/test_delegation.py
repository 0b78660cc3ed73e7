"""Delegation: a service account without keys that acts as a mailbox's user, from IAM's signature to Gmail's answer.

google-auth knows IAM and the token endpoint by constants; here they are those of the fakes.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import google.auth.iam
import google.oauth2.credentials
import pytest
from google.auth import _exponential_backoff, impersonated_credentials
from mailmirror.adapters.credentials import for_mailbox
from mailmirror.adapters.gmail import GmailApiAccounts
from mailmirror.config import READONLY_SCOPE
from mailmirror.errors import (
    AccessRevoked,
    DelegationMissing,
    GmailRejected,
    GmailUnavailable,
    NoSubject,
    NoSuchUser,
    SigningDenied,
)
from mailmirror.model import Message
from mailmirror.ports import Gmail

from local.gmail.server import create_app as create_gmail
from local.gmail.world import World as GmailWorld
from local.google import iam, oauth
from local.google.server import Served, create_app
from tests.clock import VirtualClock
from tests.world import mail

ADA = "ada@example.com"
BOB = "bob@example.com"
FUNCTIONS = "functions@p.iam.gserviceaccount.com"
DELEGATE = "mirror@p.iam.gserviceaccount.com"


@dataclass
class Domain:
    """A Workspace domain that delegates reading mail, and a deployment that may sign as the delegate.

    Attributes:
        root: where IAM and the token endpoint are.
        gmail: where Gmail is.
    """

    iam: iam.Iam
    oauth: oauth.OAuth
    world: GmailWorld
    clock: VirtualClock
    root: str
    gmail: str

    def accounts(self, scopes: str = READONLY_SCOPE) -> GmailApiAccounts:
        """The Gmail port of a new process."""
        return self.opened_by(for_mailbox("delegation", DELEGATE, scopes.split()))

    def opened_by(self, credentials: Any) -> GmailApiAccounts:
        """The Gmail port on other credentials."""
        topic, rng = "projects/p/topics/t", random.Random(0)
        return GmailApiAccounts(credentials, clock=self.clock, topic=topic, api_root=self.gmail, rng=rng, timeout=5)

    def open(self, mailbox: str = ADA) -> Gmail:
        """A mailbox."""
        return self.accounts().open(mailbox, None)


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Domain]:
    """Ada and Bob are users of the domain. The functions' own credentials are those of their service account."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    tokens, clock = oauth.OAuth(), VirtualClock()
    signer = iam.Iam(tokens.whose, token_creators={DELEGATE: {FUNCTIONS}}, delegated={DELEGATE: {READONLY_SCOPE}})
    world = GmailWorld(clock=clock, sleep=clock.sleep)
    for user in (ADA, BOB):
        world.add(user)
        signer.users.add(user)
    with (
        Served(create_app(oauth.blueprint(tokens), iam.blueprint(signer, tokens))) as served,
        Served(create_gmail(world, whose=tokens.whose)) as gmail,
    ):
        root = f"http://{served.host}"
        signer.audience = f"{root}/token"
        endpoint = f"{root}/v1/projects/-/serviceAccounts/{{}}"
        monkeypatch.setattr(google.auth.iam, "_IAM_SIGNJWT_ENDPOINT", f"{endpoint}:signJwt")
        monkeypatch.setattr(google.auth.iam, "_IAM_ENDPOINT", f"{endpoint}:generateAccessToken")
        monkeypatch.setattr(impersonated_credentials, "_GOOGLE_OAUTH2_TOKEN_ENDPOINT", signer.audience)
        monkeypatch.setattr(google.oauth2.credentials, "_GOOGLE_OAUTH2_TOKEN_ENDPOINT", signer.audience)
        # It tries again by itself, and waits.
        monkeypatch.setattr(_exponential_backoff, "time", SimpleNamespace(sleep=clock.sleep))
        fields = (
            tokens.client(root)["installed"] | json.loads(tokens.grant(FUNCTIONS, "")) | {"type": "authorized_user"}
        )
        (tmp_path / "own.json").write_text(json.dumps(fields))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "own.json"))
        # What the functions' own token is for is not the fake's business.
        monkeypatch.setattr("mailmirror.adapters.credentials._CLOUD_PLATFORM", "")
        yield Domain(signer, tokens, world, clock, root, f"http://{gmail.host}/")


def test_a_mailbox_opens_as_its_user(domain: Domain) -> None:
    """The delegate's signature says who, for what and to whom; with the token Gmail opens that user's mailbox alone."""
    ids = [domain.world.add(ADA).deliver(mail(f"{number}")) for number in range(3)]
    gmail = domain.open()
    assert gmail.profile().email_address == ADA
    assert all(isinstance(found, Message) for found in gmail.messages(ids, None).values())
    ((caller, claims),) = domain.iam.signed
    assert caller == FUNCTIONS
    assert 0 < claims.pop("exp") - claims.pop("iat") <= 3_600
    assert claims == {"iss": DELEGATE, "sub": ADA, "scope": READONLY_SCOPE, "aud": f"{domain.root}/token"}


def test_each_mailbox_as_its_own_user(domain: Domain) -> None:
    """One process opens mailboxes again and again, and signs once for each."""
    accounts = domain.accounts()
    for _ in range(3):
        for user in (ADA, BOB):
            assert accounts.open(user, None).profile().email_address == user
    assert [claims["sub"] for _, claims in domain.iam.signed] == [ADA, BOB]


def test_the_subject_is_kept(domain: Domain) -> None:
    """Through all that the client library does with credentials they act as the user: when Gmail refuses a token that
    should be good, and when one is too old.
    """
    accounts = domain.accounts()
    gmail = accounts.open(ADA, None)
    gmail.profile()
    domain.oauth.withdraw(ADA)
    gmail.profile()
    held: Any = accounts.credentials(ADA)
    held.expiry = held.expiry.replace(year=2020)
    ids = [domain.world.add(ADA).deliver(mail(f"{number}")) for number in range(2)]
    assert accounts.open(ADA, None).messages(ids, None).keys() == set(ids)
    assert [claims["sub"] for _, claims in domain.iam.signed] == [ADA, ADA, ADA]


def test_a_subject_that_is_lost_shows(domain: Domain) -> None:
    """What google-auth's `with_scopes` returns acts as the service account, and Gmail refuses that: scopes have to be
    final from the beginning (https://github.com/googleapis/google-cloud-python/issues/18428).
    """
    delegated = for_mailbox("delegation", DELEGATE, [READONLY_SCOPE])

    def scoped_again(mailbox: str) -> Any:
        found: Any = delegated(mailbox)
        return found.with_scopes([READONLY_SCOPE])

    with pytest.raises(NoSubject):
        domain.opened_by(scoped_again).open(ADA, None).profile()
    assert domain.iam.signed == []


def test_what_was_not_delegated(domain: Domain) -> None:
    """Scopes that the domain's administrator did not grant are named as missing delegation."""
    with pytest.raises(DelegationMissing):
        domain.accounts("https://mail.google.com/").open(ADA, None).profile()
    domain.iam.delegated.clear()
    with pytest.raises(DelegationMissing):
        domain.open().profile()


def test_nobody_of_that_name(domain: Domain) -> None:
    """An address that is no user of the domain, or an alias, is named as such."""
    with pytest.raises(NoSuchUser):
        domain.open("nobody@example.com").profile()
    assert issubclass(NoSuchUser, AccessRevoked)


def test_no_right_to_sign(domain: Domain) -> None:
    """Without the role on the delegate nothing is signed, and which role it takes is said."""
    domain.iam.token_creators.clear()
    with pytest.raises(SigningDenied, match=r"roles/iam\.serviceAccountTokenCreator"):
        domain.open().profile()
    assert issubclass(SigningDenied, GmailRejected)


@pytest.mark.parametrize("garbled", [b"", b"<html>", b"[]", b"{}"])
def test_google_answers_nonsense(domain: Domain, garbled: bytes) -> None:
    """An answer of the token endpoint that is none passes too, and has a name."""
    accounts = domain.accounts()
    accounts.open(ADA, None).profile()
    domain.oauth.withdraw(ADA)
    domain.oauth.garbled = garbled
    with pytest.raises(GmailUnavailable, match=f"No token for {ADA} at the moment"):
        accounts.open(ADA, None).profile()


@pytest.mark.parametrize("who", ["iam", "oauth"])
@pytest.mark.parametrize("status", [500, 503, 429])
def test_google_does_not_answer(domain: Domain, who: str, status: int) -> None:
    """That IAM or the token endpoint does not answer passes: it is for another try, and no access is gone."""
    getattr(domain, who).failing = status
    with pytest.raises(GmailUnavailable):
        domain.open().profile()
    assert not GmailUnavailable.acknowledge
