"""Secrets of addresses never show; what helps to find a mistake in an address does."""

import json

import pytest

from mixunlearn.errors import InputError
from mixunlearn.redaction import redact, redact_address, require_whole, without_account

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ann:s3/c@t@db/x", "postgresql://ann:***@db/x"),
        ("postgresql://ann@db/x", "postgresql://ann@db/x"),
        (
            "at http://u:p@h:5000/a and https://u:q@h",
            "at http://***@h:5000/a and https://***@h",
        ),
        ("http://h:5000/#/models/m@best", "http://h:5000/#/models/m@best"),
        ("http://[::1]:5000/x", "http://[::1]:5000/x"),
        ("mysql+pymysql://h/x?ssl_password=abc&a=b", "mysql+pymysql://h/x?ssl_password=***&a=***"),
        ("postgresql://h/x?sslmode=require", "postgresql://h/x?sslmode=require"),
        ("s3://b/k?region=eu&x=y&scheme=http", "s3://b/k?region=eu&x=***&scheme=http"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("databricks://scope:prefix", "databricks://scope:prefix"),
        ("wasbs://box@store/x", "wasbs://box@store/x"),
        (
            "like http://HOST:5000, sqlite:///F/m.db or postgresql://USER@HOST/NAME",
            "like http://HOST:5000, sqlite:///F/m.db or postgresql://USER@HOST/NAME",
        ),
        ("(http://h:5000/x). Mail a@b", "(http://h:5000/x). Mail a@b"),
        ("ratio 3://4", "ratio 3://4"),
        ("nothing", "nothing"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "address",
    [
        "http://hunter2@host",
        "http://hunter2:@host/x",
        "http://user:hu@hunter2@host",
        "http://user:a/hunter2@host",
        "HTTPS://user:hunter2@host:5000/a",
        "postgresql://user:it'hunter2@host/x",
        'postgresql://user:it"hunter2@host/x',
        "postgresql://user:'hunter2'@host/x",
        "postgresql+psycopg://user:a b hunter2@host/x",
        "postgresql://user:hunter2",
        "mysql://user:a?b#hunter2@host/x",
        "s3://KEY:a/b+hunter2@bucket/x",
        "s3://hunter2:x@bucket",
        "http://host?access_token=hunter2",
        "http://host/?api_key=hunter2#place",
        "https://store/box?sv=1&sig=hunter2",
        "http://host/#access_token=hunter2",
        "http://host/x?hunter2",
        "mssql+pyodbc:///?odbc_connect=DRIVER%3D%7Bx%7D%3BPWD%3Dhunter2",
        "mssql+pyodbc:///?odbc_connect=DRIVER={ODBC Driver 17};UID=sa;PWD=hunter2",
        "s3://b?endpoint_override=http://u:hunter2@host",
        "s3://b?endpoint_override=http%3A%2F%2Fu%3Ahunter2%40host",
        "sftp://ann:hunter2@host/x",
        "redis://:hunter2@host",
    ],
)
def test_no_secret_is_shown_wherever_the_address_stands(address: str) -> None:
    assert SECRET not in redact_address(address)
    assert redact_address(redact_address(address)) == redact_address(address)
    texts = [
        address,
        f"{address} does not answer",
        f"--set = {'tracking.uri=' + address!r}: must be an address",
        f"tracking.uri = {address!r}: refused, ask ann@example.org",
        json.dumps({"uri": address, "mail": "ann@example.org"}),
        json.dumps({"text": json.dumps({"uri": address})}),
        f"see <{address}>, ({address}) and http://other:{SECRET}@host",
        f"line one\n{address}\nline three",
    ]
    for text in texts:
        assert SECRET not in redact(text)
        assert redact(redact(text)) == redact(text)


def test_what_stands_around_an_address_stays() -> None:
    text = json.dumps({"uri": "http://u:p@h", "mail": "ann@example.org", "n": [1]})
    assert json.loads(redact(text)) == {"uri": "http://***@h", "mail": "ann@example.org", "n": [1]}
    compact = json.dumps({"a": "postgresql://ann@h/x", "b": "c@d"}, separators=(",", ":"))
    assert redact(compact) == compact
    assert redact("libpq: host=db password=hunter2 user=ann") == (
        "libpq: host=db password=*** user=ann"
    )


def test_a_saved_address_is_used_with_credentials_of_the_environment() -> None:
    assert without_account(None) is None
    for address, usable in [
        ("http://ann:secret@host:5000/a", "http://host:5000/a"),
        ("http://token@host", "http://host"),
        ("postgresql://ann:secret@db/x?sslmode=require", "postgresql://ann@db/x?sslmode=require"),
        ("s3://KEY:secret@bucket/x", "s3://bucket/x"),
        ("sqlite:////home/a/x.db", "sqlite:////home/a/x.db"),
    ]:
        assert without_account(redact_address(address)) == usable
        require_whole("tracking.uri", usable)
    hidden = without_account(redact_address("s3://KEY:secret@bucket/x?secret_key=a"))
    with pytest.raises(InputError, match=r"give the whole address with --set storage.files="):
        require_whole("storage.files", hidden)
