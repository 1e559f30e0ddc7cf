"""A signature holds for one model, flavour and digest, and for the keys that are trusted."""

import stat
import subprocess
from pathlib import Path

import pytest

from services.model_registry import signing
from services.model_registry.signing import SigningError, Statement
from tests.unit.model_registry.installation import settings
from tests.waiting import LIVENESS_SECONDS

STATEMENT = Statement("m", "sklearn", "ab" * 32)


def test_signature_of_a_statement_is_verified(tmp_path: Path):
    """The first signature makes the key, readable by its owner alone, and the public half beside it."""
    own = settings(tmp_path)
    signature = signing.sign(own, STATEMENT)
    signing.verify(own, STATEMENT, signature)

    private = tmp_path / "keys" / "signing.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    key_id = signature.partition(":")[0]
    assert {path.name for path in private.parent.iterdir()} == {"signing.pem", f"{key_id}.pub.pem"}
    assert signing.ensure_key(own) == key_id, "an existing key stays"


def test_signed_text_is_fixed():
    """These bytes are in every registry: another text would void all signatures."""
    assert STATEMENT.text() == (
        b'driftline model version\n{"digest":"'
        + b"ab" * 32
        + b'","flavour":"sklearn","format":1,"model":"m"}'
    )


@pytest.mark.parametrize(
    "other",
    [
        Statement("n", "sklearn", "ab" * 32),
        Statement("m", "pyfunc", "ab" * 32),
        Statement("m", "sklearn", "cd" * 32),
    ],
    ids=["model", "flavour", "digest"],
)
def test_signature_does_not_hold_for_another_statement(tmp_path: Path, other: Statement):
    """What was signed for one cannot be passed off as another."""
    own = settings(tmp_path)
    with pytest.raises(SigningError, match="copied from another version"):
        signing.verify(own, other, signing.sign(own, STATEMENT))


def test_signature_by_a_key_that_is_not_trusted_names_the_key(tmp_path: Path):
    """The error names the missing public key."""
    mine, theirs = settings(tmp_path / "mine"), settings(tmp_path / "theirs")
    signing.ensure_key(mine)
    signature = signing.sign(theirs, STATEMENT)
    with pytest.raises(SigningError, match=f"key '{signature.partition(':')[0]}', which is not trusted"):
        signing.verify(mine, STATEMENT, signature)


@pytest.mark.parametrize("signature", ["", "no signature", "0123:!!", ":"])
def test_what_is_no_signature_is_refused(tmp_path: Path, signature: str):
    """A tag holds whatever somebody wrote into it."""
    own = settings(tmp_path)
    signing.ensure_key(own)
    with pytest.raises(SigningError):
        signing.verify(own, STATEMENT, signature)


def test_keys_are_rotated_by_adding_and_withdrawing_a_file(tmp_path: Path):
    """Both keys hold while both are there; a withdrawn one no longer does, without a restart."""
    old, new = settings(tmp_path / "old"), settings(tmp_path / "new")
    first, second = signing.sign(old, STATEMENT), signing.sign(new, STATEMENT)
    scoring = settings(tmp_path, verifying_keys=f"{old.keys}, {new.keys}")
    signing.verify(scoring, STATEMENT, first)
    signing.verify(scoring, STATEMENT, second)

    (old.keys / f"{first.partition(':')[0]}.pub.pem").unlink()
    with pytest.raises(SigningError, match="not trusted"):
        signing.verify(scoring, STATEMENT, first)
    signing.verify(scoring, STATEMENT, second)


def test_key_that_was_set_must_be_there(tmp_path: Path):
    """A key that an operator provides is never replaced by a new one that nobody trusts."""
    own = settings(tmp_path, signing_key_file=tmp_path / "absent.pem")
    with pytest.raises(SigningError, match="DRIFTLINE_SIGNING_KEY_FILE"):
        signing.sign(own, STATEMENT)
    assert not (tmp_path / "absent.pem").exists()


def test_where_keys_are_provided_none_is_made(tmp_path: Path):
    """A key of this machine's own would be trusted by nobody."""
    own = settings(tmp_path, verifying_keys=str(tmp_path / "verifying"))
    with pytest.raises(SigningError, match="cannot sign with"):
        signing.sign(own, STATEMENT)
    assert not own.keys.exists()


def test_key_made_by_openssl_signs(tmp_path: Path):
    """The documented commands give keys of the right form."""
    private, public = tmp_path / "k.pem", tmp_path / "k.pub.pem"
    for command in (
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", private],
        ["openssl", "pkey", "-in", private, "-pubout", "-out", public],
    ):
        subprocess.run([*map(str, command)], check=True, capture_output=True, timeout=LIVENESS_SECONDS)
    own = settings(tmp_path, signing_key_file=private, verifying_keys=str(public))
    signing.verify(own, STATEMENT, signing.sign(own, STATEMENT))


def test_broken_public_key_is_named(tmp_path: Path):
    """One bad file does not look like a bad signature."""
    own = settings(tmp_path)
    signature = signing.sign(own, STATEMENT)
    (own.keys / "broken.pub.pem").write_text("no key")
    with pytest.raises(SigningError, match=r"broken\.pub\.pem"):
        signing.verify(own, STATEMENT, signature)
