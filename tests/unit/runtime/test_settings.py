import hashlib
import ssl
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.runtime.settings import Settings, Token

DIGEST = hashlib.sha256(b"token").hexdigest()


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, **values)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"DRIFTLINE_{name.upper()}", raising=False)


def test_the_environment_gives_another_process_equal_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(
        broker="kafka-1:9093,kafka-2:9093",
        security_protocol="SASL_SSL",
        sasl_username="driftline",
        sasl_password="s3cret",
        ssl_cafile=tmp_path / "ca.pem",
        redis_cluster=True,
        home=tmp_path / "home",
        models=tmp_path / "models",
        feature_repo=tmp_path / "features",
        skew_share=0.125,
    )
    environment = given.environment()
    assert environment["DRIFTLINE_SASL_PASSWORD"] == "s3cret"
    assert "DRIFTLINE_SSL_KEYFILE" not in environment
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert settings() == given


def test_paths_in_the_environment_do_not_depend_on_the_folder_of_the_process() -> None:
    environment = settings().environment()
    assert environment["DRIFTLINE_HOME"] == str(Path(".driftline").resolve())
    assert environment["DRIFTLINE_MODELS"] == str(Path("models").resolve())


def test_plain_text_needs_no_more_than_the_addresses() -> None:
    assert settings(broker="a:1,b:2").kafka_options() == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "PLAINTEXT",
    }


def test_sasl_over_tls_has_a_user_and_verifies_the_broker() -> None:
    options = settings(
        security_protocol="SASL_SSL",
        sasl_username="me",
        sasl_password="s3cret",
    ).kafka_options()
    context = options.pop("ssl_context")
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert options == {
        "bootstrap_servers": ["127.0.0.1:19092"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "me",
        "sasl_plain_password": "s3cret",
    }


def test_sasl_without_tls_has_no_context() -> None:
    given = settings(security_protocol="SASL_PLAINTEXT", sasl_username="me")
    assert given.ssl_context() is None
    assert "ssl_context" not in given.kafka_options()


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_sasl_needs_a_user(protocol: str) -> None:
    with pytest.raises(ValidationError, match=f"{protocol} needs sasl_username and sasl_password"):
        settings(security_protocol=protocol)


def test_tokens_are_listed_by_digest_and_team() -> None:
    other = hashlib.sha256(b"other").hexdigest().upper()
    given = settings(api_token_digests=f"{DIGEST},", team_token_digests=f" a_team:{DIGEST} ,b-2:{other}")
    assert given.feature_tokens == (Token(hashlib.sha256(b"token").digest()),)
    assert given.scoring_tokens == (
        Token(hashlib.sha256(b"token").digest(), "a_team"),
        Token(hashlib.sha256(b"other").digest(), "b-2"),
    )
    assert settings(retraining_token_digests=DIGEST).retraining_tokens == given.feature_tokens
    assert settings().feature_tokens == settings().scoring_tokens == settings().retraining_tokens == ()


@pytest.mark.parametrize("digests", [",", " , ", " "])
def test_a_list_of_tokens_without_an_entry_is_refused(digests: str) -> None:
    for name in ("api_token_digests", "team_token_digests", "retraining_token_digests"):
        with pytest.raises(ValidationError, match="the list has no entry"):
            settings(**{name: digests})


@pytest.mark.parametrize("digests", [DIGEST[:-1], DIGEST + "0", f"{DIGEST},token", f"team:{DIGEST}"])
def test_a_token_in_place_of_its_digest_is_refused(digests: str) -> None:
    with pytest.raises(ValidationError, match="each must be a SHA-256 digest: 64 hexadecimal digits"):
        settings(api_token_digests=digests)


@pytest.mark.parametrize("digests", [DIGEST, f"Team:{DIGEST}", f":{DIGEST}", "team:token"])
def test_a_digest_without_a_team_is_refused(digests: str) -> None:
    with pytest.raises(ValidationError, match="each must be team:digest, where digest is a SHA-256"):
        settings(team_token_digests=digests)


def test_keys_and_archive_are_in_the_home_folder_by_default(tmp_path: Path) -> None:
    given = settings(home=tmp_path)
    assert given.keys == tmp_path.resolve() / "keys"
    assert given.verifying_key_places == (given.keys,)
    assert given.archive_root == str(tmp_path.resolve() / "archive")
    assert settings(home=tmp_path, archive_uri="s3://bucket/a").archive_root == "s3://bucket/a"
    places = settings(verifying_keys="/keys, /other/a.pub.pem,").verifying_key_places
    assert places == (Path("/keys"), Path("/other/a.pub.pem"))


def test_lists_ignore_spaces_and_empty_parts() -> None:
    given = settings(trusted_types=" a.B ,, c.D", trusted_teams="")
    assert given.trusted_type_names == ("a.B", "c.D")
    assert given.trusted_team_names == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("partitions", 0),
        ("session_timeout_seconds", 0.9),
        ("session_timeout_seconds", 300.1),
        ("skew_share", 0),
        ("skew_share", 1.01),
        ("record_bytes_max", 1023),
        ("alert_age_hours_max", 0),
        ("log_level", "loud"),
        ("security_protocol", "TLS"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(**{name: value})
    assert [each["loc"] for each in refused.value.errors()] == [(name,)]


def test_a_password_is_not_shown() -> None:
    assert "s3cret" not in repr(settings(sasl_password="s3cret", alert_destinations="a=b://s3cret"))
